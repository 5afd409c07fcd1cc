"""From a base model and a round's updates to the file of the next version."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from edgeml_client.second_thread import in_second_thread
from edgeml_client.updates.array_names import is_variance
from edgeml_client.updates.coding import Chunk, CodedUpdateFile
from edgeml_client.updates.layout import ITEM_BYTES, Layout
from edgeml_client.updates.mapped_file import map_file, read_into
from edgeml_client.updates.safetensors_header import HeaderEntry, read_header
from edgeml_client.updates.update_file import CHUNK_BYTES, UpdateFile, open_update
from edgeml_server.aggregation.mean import Addend, RunningMean
from edgeml_server.aggregation.norm_bound import NormBound, median_bound, scale_within
from edgeml_server.aggregation.stored_arrays import add_to_stored

__all__ = ["Contribution", "DivergedError", "average_updates", "write_next_version"]

_PIECE_BYTES: Final = 1 << 18
"""Read and written at a time; a whole number of items of every dtype."""

_MAX_TOGETHER: Final = 16
_MAX_BYTES_TOGETHER: Final = 1 << 30


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


_Opened: TypeAlias = tuple[Contribution, "UpdateFile | CodedUpdateFile"]


def average_updates(
    contributions: Sequence[Contribution],
    layout: Layout,
    *,
    norm_bound: NormBound = NormBound.NONE,
    after_each: Callable[[], None] = lambda: None,
) -> RunningMean:
    """Return the sample-weighted mean of the contributions, summed in the order given.

    Args:
        contributions: The updates; their files are read in blocks, those of a few at a time.
        layout: The arrays of the base model.
        norm_bound: With ``median``, an update longer than the median of the given norms is shrunk to it.
        after_each: Called after each contribution, to renew a lease.

    Raises:
        ValueError: A file is not an update of this model (it was checked when it was accepted).
    """
    bound = median_bound(given.norm for given in contributions) if norm_bound is NormBound.MEDIAN else None
    mean = RunningMean({spec.name: spec.shape for spec in layout.floating})
    opened = ((given, open_update(given.path, layout)) for given in contributions)
    buffer = bytearray(CHUNK_BYTES)
    for names, together in _batches(opened):
        addends = [
            Addend(_chunks(update, buffer), given.num_samples, scale_within(given.norm, bound=bound))
            for given, update in together
        ]
        mean.add_together(addends, names)
        for _ in together:
            after_each()
    return mean


def _chunks(update: UpdateFile | CodedUpdateFile, buffer: bytearray) -> Iterator[Chunk]:
    return update.chunks(buffer) if isinstance(update, UpdateFile) else update.chunks()


def _batches(opened: Iterable[_Opened]) -> Iterator[tuple[tuple[str, ...], list[_Opened]]]:
    """Yield the names of arrays with the updates, one or several in a row, that are added together.

    Dense updates of the same arrays are; how many is bounded, so that a lease can be renewed between batches.
    """
    numbered = enumerate(opened)
    for _, alike in itertools.groupby(numbered, key=lambda pair: _kind(*pair)):
        for _, first in alike:
            num_more = min(_MAX_TOGETHER, _MAX_BYTES_TOGETHER // first[1].num_bytes) - 1
            rest = (one for _, one in itertools.islice(alike, max(num_more, 0)))
            yield first[1].layout.names, [first, *rest]


def _kind(number: int, opened: _Opened) -> object:
    """Return what is equal for updates whose chunks lie at the same positions."""
    _, update = opened
    return update.layout.names if isinstance(update, UpdateFile) and update.is_in_order else number


def write_next_version(base: Path, mean: RunningMean, destination: Writable) -> None:
    """Write the file of the next version: the base plus the mean, in the dtypes of the base.

    Integer arrays, and floating arrays that no device sent, keep the bytes of the base. Variances end at zero
    or above, even where rounded or noisy updates sum up to less. The file is read and written in blocks; a
    second thread writes one, which takes its digest too, while the next one is computed.

    Raises:
        DivergedError: A result is not finite.
    """
    memory = map_file(base)
    entries = read_header(memory).entries
    data_start = entries[0].start if entries else len(memory)
    destination.write(memory[:data_start])
    with base.open("rb", buffering=0) as file:
        file.seek(data_start)
        for _ in in_second_thread(destination.write, _pieces_of_next(file, entries, mean)):
            pass


def _pieces_of_next(file: FileIO, entries: Sequence[HeaderEntry], mean: RunningMean) -> Iterator[memoryview]:
    """Yield the arrays of the next version; a piece stays as it is until the next but one is asked for."""
    buffers = itertools.cycle([memoryview(bytearray(_PIECE_BYTES)) for _ in range(2)])
    for entry in entries:
        for start in range(entry.start, entry.stop, _PIECE_BYTES):
            piece = next(buffers)[: min(_PIECE_BYTES, entry.stop - start)]
            read_into(file, piece)
            yield _followed(piece, entry, mean, start=start)


def _followed(piece: memoryview, entry: HeaderEntry, mean: RunningMean, *, start: int) -> memoryview:
    """Return what follows on a piece of the base that begins at byte ``start``."""
    spec = entry.spec
    if not spec.is_averaged or mean.num_samples(spec.name) == 0:
        return piece
    item_bytes = ITEM_BYTES[spec.dtype]
    first = (start - entry.start) // item_bytes
    block = mean.block(spec.name, first, first + len(piece) // item_bytes)
    at_least = 0.0 if is_variance(spec.name) else -math.inf
    result, is_finite = add_to_stored(piece, block, dtype=spec.dtype, at_least=at_least)
    if not is_finite:
        raise DivergedError(spec.name)
    return result
