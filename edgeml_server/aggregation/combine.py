"""From a base model and a round's updates to the file of the next version."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from edgeml_client.updates.coding import CodedUpdateFile
from edgeml_client.updates.layout import ITEM_BYTES, Layout
from edgeml_client.updates.safetensors_header import HeaderEntry, read_header
from edgeml_client.updates.update_file import open_update
from edgeml_server.aggregation.mean import BLOCK_LENGTH, RunningMean
from edgeml_server.aggregation.norm_bound import NormBound, median_bound, scale_within
from edgeml_server.aggregation.stored_arrays import add_to_stored

__all__ = ["Contribution", "DivergedError", "average_updates", "write_next_version"]

_COPY_BYTES: Final = 4 * BLOCK_LENGTH


class Writable(Protocol):
    """What the next version is written to."""

    def write(self, chunk: bytes | memoryview, /) -> object:
        """Append ``chunk``."""
        ...


class DivergedError(ValueError):
    """The average is finite no more once it is added to the base: no version can be made of it.

    Attributes:
        array_name: The first array in which that happened.
    """

    def __init__(self, array_name: str) -> None:
        super().__init__(
            f"array {array_name!r} would hold NaN or Inf after aggregation; bound the updates with "
            "norm_bound or clip_norm, or lower the learning rate"
        )
        self.array_name = array_name


@dataclass(frozen=True, slots=True)
class Contribution:
    """One accepted update.

    Attributes:
        path: Its file.
        num_samples: The samples behind it, at least 1.
        norm: Its L2 norm, as measured when it was accepted.
    """

    path: Path
    num_samples: int
    norm: float


def average_updates(
    contributions: Sequence[Contribution],
    layout: Layout,
    *,
    norm_bound: NormBound = NormBound.NONE,
    after_each: Callable[[], None] = lambda: None,
) -> RunningMean:
    """Return the sample-weighted mean of the contributions, summed in the order given.

    Args:
        contributions: The updates; their files are mapped one at a time.
        layout: The arrays of the base model.
        norm_bound: With ``median``, an update longer than the median of the given norms is shrunk to it.
        after_each: Called after each contribution, to renew a lease.

    Raises:
        ValueError: A file is not an update of this model (it was checked when it was accepted).
    """
    bound = median_bound(given.norm for given in contributions) if norm_bound is NormBound.MEDIAN else None
    mean = RunningMean({spec.name: spec.shape for spec in layout.floating})
    for given in contributions:
        _add_(mean, given, layout, scale=scale_within(given.norm, bound=bound))
        after_each()
    return mean


def _add_(mean: RunningMean, given: Contribution, layout: Layout, *, scale: float) -> None:
    update = open_update(given.path, layout)
    if isinstance(update, CodedUpdateFile):
        mean.add_chunks(update.chunks(), update.layout.names, num_samples=given.num_samples, scale=scale)
    else:
        mean.add(update.arrays(), num_samples=given.num_samples, scale=scale)


def write_next_version(base: Path, mean: RunningMean, destination: Writable) -> None:
    """Write the file of the next version: the base plus the mean, in the dtypes of the base.

    Integer arrays, and floating arrays that no device sent, keep the bytes of the base. The file is read
    and written in blocks.

    Raises:
        DivergedError: A result is not finite.
    """
    with base.open("rb") as stream:
        # The mapping outlives the stream: it closes itself once nothing refers to it any more.
        memory = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
    entries = read_header(memory).entries
    data_start = entries[0].start if entries else len(memory)
    destination.write(memory[:data_start])
    blocks = (block for entry in entries for block in _array_blocks(memory, entry, mean))
    for block in blocks:
        destination.write(block)


def _array_blocks(memory: memoryview, entry: HeaderEntry, mean: RunningMean) -> Iterable[memoryview]:
    spec = entry.spec
    if not spec.is_averaged or mean.num_samples(spec.name) == 0:
        for start in range(entry.start, entry.stop, _COPY_BYTES):
            yield memory[start : min(start + _COPY_BYTES, entry.stop)]
        return
    item_bytes = ITEM_BYTES[spec.dtype]
    for first in range(0, spec.size, BLOCK_LENGTH):
        last = min(first + BLOCK_LENGTH, spec.size)
        stored = memory[entry.start + first * item_bytes : entry.start + last * item_bytes]
        block, is_finite = add_to_stored(stored, mean.block(spec.name, first, last), dtype=spec.dtype)
        if not is_finite:
            raise DivergedError(spec.name)
        yield block
