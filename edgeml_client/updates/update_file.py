"""The update file, ``edgeml-delta/1``: what a device uploads after a round.

A plain safetensors file. ``__metadata__`` holds one string, ``edgeml.update``: the JSON of
:class:`~edgeml_client.schemas.UpdateHeader`. The arrays are float32 and carry the names and shapes of the
registered floating arrays, all of them except those the header lists as ``private``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from pydantic import ValidationError

from edgeml_client.errors import InvalidModelError, InvalidUpdateError, ModelMismatchError, NonFiniteError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import Float32Array, State, layout_of, raw_bytes
from edgeml_client.updates.coding.coded_file import CodedUpdateFile
from edgeml_client.updates.coding.spec import CODING_KEY, UPDATE_KEY, Chunk
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.mapped_file import let_go, map_file, read_into
from edgeml_client.updates.model_file import in_file_order
from edgeml_client.updates.private_arrays import refuse_private
from edgeml_client.updates.safetensors_header import MAX_HEADER_BYTES, Header, build_header, read_header
from edgeml_client.updates.vector import sum_of_squares

__all__ = [
    "CHUNK_BYTES",
    "MAX_TRAIL_BYTES",
    "UPDATE_CONTENT_TYPE",
    "UpdateFile",
    "encode_update",
    "max_update_bytes",
    "open_update",
    "read_arrays",
    "read_update_header",
]

UPDATE_CONTENT_TYPE: Final = "application/vnd.edgeml.update"

_BYTES_PER_NAME: Final = 512
_SLACK_BYTES: Final = 65_536
MAX_TRAIL_BYTES: Final = 49_152
"""What the filters in an envelope may take, as they are written there; the rest has room beside them."""

CHUNK_BYTES: Final = 1 << 18
"""What is read at a time: with a block of sums beside it, it stays in the cache of one core."""

UpdateSource: TypeAlias = bytes | bytearray | memoryview | Path


def max_update_bytes(layout: Layout) -> int:
    """Return how large an update of a model may be: refuse a longer body before reading it."""
    names = sum(_BYTES_PER_NAME + 12 * len(spec.name) for spec in layout)
    return layout.num_delta_bytes + min(MAX_HEADER_BYTES, 2 * names + _SLACK_BYTES)


def encode_update(header: UpdateHeader, delta: State) -> bytes:
    """Return the update file of a delta; the same input always gives the same bytes.

    Args:
        header: The envelope; ``header.private`` names the arrays that stay on the device.
        delta: Floating arrays, NumPy or torch, without the private ones; they are written as float32.

    Raises:
        ModelMismatchError: An entry is no dense floating array.
        InvalidUpdateError: A private array is part of ``delta``.
        NonFiniteError: An array holds NaN or Inf.
    """
    refuse_private(header, delta)
    specs = in_file_order(layout_of(delta).as_float32())
    bodies = [raw_bytes(delta[spec.name], dtype="F32") for spec in specs]
    for spec, body in zip(specs, bodies, strict=True):
        if not math.isfinite(sum_of_squares(np.frombuffer(body, np.float32))):
            raise NonFiniteError(spec.name)
    return b"".join([build_header(specs, {UPDATE_KEY: header.model_dump_json()}), *bodies])


def read_update_header(data: UpdateSource) -> UpdateHeader:
    """Return the envelope of an update file, reading nothing else of it.

    Raises:
        InvalidUpdateError: It is no update file, or one of a format this version does not know.
    """
    return _envelope(_parsed(_as_memory(data)))


def read_arrays(data: UpdateSource) -> dict[str, Float32Array]:
    """Return the arrays of an update file that this device wrote; use :func:`open_update` for any other.

    Raises:
        InvalidUpdateError: It is no update file.
    """
    memory = _as_memory(data)
    parsed = _parsed(memory)
    if CODING_KEY in parsed.metadata:
        raise InvalidUpdateError(
            "a coded update cannot be turned into the legacy form; its control plane must announce "
            "updates.binary"
        )
    return dict(UpdateFile(memory, parsed, _envelope(parsed)).arrays())


def open_update(data: UpdateSource, layout: Layout) -> UpdateFile | CodedUpdateFile:
    """Return an update file that was checked against a registered model, without reading its arrays.

    Args:
        data: The whole file in memory, or its path, which is then mapped and not loaded.
        layout: The layout of the round's base model.

    Raises:
        InvalidUpdateError: It is no update file, or larger than an update of this model can be.
        ModelMismatchError: Names or shapes are not those of ``layout``; the message lists them.
    """
    memory = _as_memory(data)
    if len(memory) > max_update_bytes(layout):
        raise InvalidUpdateError(
            f"the update has {len(memory)} bytes; one of this model has at most {max_update_bytes(layout)}"
        )
    parsed = _parsed(memory)
    header = _envelope(parsed)
    foreign = sorted(set(header.private) - set(layout.floating.names))
    if foreign:
        raise ModelMismatchError("the update lists private arrays that the model does not have:", foreign)
    shared = layout.floating.without(frozenset(header.private)).as_float32()
    if len(layout.floating) and not len(shared):
        raise InvalidUpdateError("every array is private; an update must share at least one")
    if CODING_KEY in parsed.metadata:
        return CodedUpdateFile(memory, parsed, header, shared)
    shared.require_same_arrays(
        Layout.of(entry.spec for entry in parsed.entries), summary="the update does not fit the model:"
    )
    let_go(memory)
    return UpdateFile(memory, parsed, header, path=data if isinstance(data, Path) else None)


class UpdateFile:
    """A checked update; :func:`open_update` makes one.

    Attributes:
        header: The envelope.
        layout: The arrays it holds, all float32.
    """

    def __init__(
        self, memory: memoryview, parsed: Header, header: UpdateHeader, *, path: Path | None = None
    ) -> None:
        self.header = header
        self.layout = Layout.of(entry.spec for entry in parsed.entries)
        self._memory = memory
        self._path = path
        self._entries = sorted(parsed.entries, key=lambda entry: entry.spec.name)

    @property
    def num_bytes(self) -> int:
        """The size of the whole file."""
        return len(self._memory)

    @property
    def is_in_order(self) -> bool:
        """Whether the arrays lie in the file as they follow each other in the vector; ours always do."""
        return len(self._stretches) <= 1

    def chunks(self, buffer: bytearray | None = None) -> Iterator[Chunk]:
        """Yield the vector from its start, in chunks of at most 256 KiB.

        Args:
            buffer: What a file is read into, so that the next chunk overwrites what was yielded: at least
                :data:`CHUNK_BYTES` long; by default a new one. Several files may share it, in turns.

        Raises:
            OSError: The file cannot be read any more.
        """
        start = 0
        for values in self._blocks(buffer or bytearray(CHUNK_BYTES)):
            yield Chunk(start, start + values.size, None, values)
            start += values.size

    def _blocks(self, buffer: bytearray) -> Iterator[Float32Array]:
        if self._path is None:
            for start, stop in self._stretches:
                for offset in range(start, stop, CHUNK_BYTES):
                    yield np.frombuffer(
                        self._memory[offset : min(offset + CHUNK_BYTES, stop)], np.dtype("<f4")
                    )
            return
        memory, numbers = memoryview(buffer), np.frombuffer(buffer, np.dtype("<f4"))
        with self._path.open("rb", buffering=0) as file:
            for start, stop in self._stretches:
                file.seek(start)
                for offset in range(start, stop, CHUNK_BYTES):
                    num_bytes = min(CHUNK_BYTES, stop - offset)
                    read_into(file, memory[:num_bytes])
                    yield numbers[: num_bytes // numbers.itemsize]

    def arrays(self) -> Iterator[tuple[str, Float32Array]]:
        """Yield each name, ascending, with its numbers: read-only and not copied."""
        for entry in self._entries:
            flat = np.frombuffer(self._memory, np.dtype("<f4"), count=entry.spec.size, offset=entry.start)
            yield entry.spec.name, flat.reshape(entry.spec.shape)

    def check_finite(self) -> float:
        """Return the L2 norm over all arrays, computed in float64.

        Raises:
            NonFiniteError: An array holds NaN or Inf; the error names it.
        """
        total = 0.0
        for chunk in self.chunks():
            squares = sum_of_squares(chunk.values)
            if not math.isfinite(squares):
                raise NonFiniteError(self._name_with_bad_value())
            total += squares
        return math.sqrt(total)

    @cached_property
    def _stretches(self) -> tuple[tuple[int, int], ...]:
        """Where the vector lies in the file: bytes from, to, in as few stretches as possible."""
        stretches: list[tuple[int, int]] = []
        for entry in self._entries:
            if stretches and stretches[-1][1] == entry.start:
                stretches[-1] = (stretches[-1][0], entry.stop)
            else:
                stretches.append((entry.start, entry.stop))
        return tuple(stretches)

    def _name_with_bad_value(self) -> str:
        return next(name for name, array in self.arrays() if not np.isfinite(array).all())


def _as_memory(data: UpdateSource) -> memoryview:
    if not isinstance(data, Path):
        return memoryview(data).toreadonly()
    memory = map_file(data)
    if not memory:
        raise InvalidUpdateError("the update is empty")
    return memory


def _parsed(memory: memoryview) -> Header:
    try:
        return read_header(memory)
    except InvalidModelError as exc:
        raise InvalidUpdateError(f"not an update file: {exc}") from exc


def _envelope(parsed: Header) -> UpdateHeader:
    text = parsed.metadata.get(UPDATE_KEY)
    if text is None or not parsed.metadata.keys() <= {UPDATE_KEY, CODING_KEY}:
        raise InvalidUpdateError(
            f"not an update file: its __metadata__ must hold {UPDATE_KEY!r} alone, or with {CODING_KEY!r}"
        )
    try:
        return UpdateHeader.model_validate_json(text)
    except ValidationError as exc:
        raise InvalidUpdateError(f"the update's envelope is wrong: {_first_problem(exc)}") from exc


def _first_problem(exc: ValidationError) -> str:
    first = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"
