"""Reading a coded update: bounded by the registered model, one chunk in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from edgeml_client.errors import InvalidUpdateError, NonFiniteError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import NUMPY_DTYPES, Float32Array, widen_bfloat16
from edgeml_client.updates.coding.factors import in_chunks, is_factored, joined, products, stored_layout
from edgeml_client.updates.coding.frames import FrameReader
from edgeml_client.updates.coding.index import decode_index
from edgeml_client.updates.coding.levels import dequantize, unpack
from edgeml_client.updates.coding.runs import Runs
from edgeml_client.updates.coding.spec import (
    CHUNKS,
    CODING_KEY,
    INDEX,
    SCALES,
    VALUES,
    Chunk,
    Coding,
    coded_layout,
)
from edgeml_client.updates.coding.table import ChunkRow, read_table
from edgeml_client.updates.layout import ArraySpec, Layout
from edgeml_client.updates.safetensors_header import Header, HeaderEntry
from edgeml_client.updates.vector import sum_of_squares

__all__ = ["CodedUpdateFile"]


class CodedUpdateFile:
    """A coded update whose framing was checked against the registered model; its streams are not read yet.

    Reading yields what any other update file yields. Every pass decodes the streams anew and checks all of
    them, so a file that was read to its end once is right.

    Args:
        memory: The whole file.
        parsed: Its safetensors header.
        header: The envelope.
        layout: The arrays the update stands for, all float32: the registered floating ones that are not
            private.

    Raises:
        InvalidUpdateError: The coding is unknown, or the streams do not fit the layout.
    """

    def __init__(self, memory: memoryview, parsed: Header, header: UpdateHeader, layout: Layout) -> None:
        self.header = header
        self.layout = layout
        self.coding = _read_coding(parsed)
        self._stored = stored_layout(layout, self.coding.rank)
        self._memory = memory
        self._entries = {entry.spec.name: entry for entry in parsed.entries}
        self._require_streams()
        self._rows = read_table(
            self._bytes_of(CHUNKS),
            size=self._stored.size,
            coding=self.coding,
            index_bytes=len(self._bytes_of(INDEX)),
            value_bytes=len(self._bytes_of(VALUES)),
        )
        self._runs = Runs(self._stored, block=self.coding.block)
        self._require_scales()

    @property
    def num_bytes(self) -> int:
        """The size of the whole file."""
        return len(self._memory)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks that hold values, in order; each is new memory.

        Raises:
            InvalidUpdateError: A stream is not what the format allows.
        """
        if self.coding.rank is None:
            return self._stored_chunks()
        pieces = (piece for _, pieces in self._multiplied(self.coding.rank) for piece in pieces)
        return in_chunks(pieces, size=self.layout.size)

    def arrays(self) -> Iterator[tuple[str, Float32Array]]:
        """Yield each name, ascending, with its numbers: one array at a time, and one chunk beside it.

        Raises:
            InvalidUpdateError: A stream is not what the format allows.
        """
        if self.coding.rank is None:
            return self._stored_arrays()
        return ((spec.name, joined(pieces, spec)) for spec, pieces in self._multiplied(self.coding.rank))

    def _multiplied(self, rank: int) -> Iterator[tuple[ArraySpec, Iterator[Float32Array]]]:
        """Yield each array with its numbers in flat pieces, which must be read before the next array is."""
        stored = (array for _, array in self._stored_arrays())
        for spec in self.layout:
            array = next(stored)
            if is_factored(spec, rank):
                yield spec, (rows.reshape(-1) for rows in products(array, next(stored)))
            else:
                yield spec, iter([array.reshape(-1)])
        next(stored, None)  # what follows the last array checks the streams

    def _stored_chunks(self) -> Iterator[Chunk]:
        """Yield the chunks of what the streams hold."""
        reader = FrameReader()
        index, values = self._bytes_of(INDEX), self._bytes_of(VALUES)
        num_scales_used = 0
        for row in self._rows:
            if not row.count:
                continue
            positions = decode_index(
                row.kind, index[row.index], count=row.count, span=row.span, reader=reader
            )
            stream = self._values_of(row, values[row.values], reader)
            if self.coding.scales is None:
                numbers = stream.view(np.dtype("<f4"))
            else:
                runs = self._runs.lengths(positions, start=row.start, span=row.span)
                scales = self._scales[num_scales_used : num_scales_used + runs.size]
                num_scales_used += runs.size
                if scales.size < runs.size:
                    raise InvalidUpdateError("the update has fewer scales than its values need")
                levels = unpack(stream, count=row.count, coding=self.coding)
                numbers = dequantize(levels, scales, runs=runs, coding=self.coding)
            yield Chunk(row.start, row.start + row.span, positions, numbers)
        if num_scales_used != self._scales.size:
            raise InvalidUpdateError("the update has more scales than its values need")

    def _stored_arrays(self) -> Iterator[tuple[str, Float32Array]]:
        """Yield each array that the streams hold, with its name, one at a time and one chunk beside it."""
        chunks = self._stored_chunks()
        chunk = next(chunks, None)
        dense: Float32Array | None = None
        start = 0
        for spec in self._stored:
            numbers = np.zeros(spec.size, np.float32)
            stop = start + spec.size
            while chunk is not None and chunk.start < stop:
                dense = chunk.dense() if dense is None else dense
                first, last = max(start, chunk.start), min(stop, chunk.stop)
                numbers[first - start : last - start] = dense[first - chunk.start : last - chunk.start]
                if chunk.stop > stop:
                    break
                chunk = dense = None  # frees them before the next chunk is read
                chunk = next(chunks, None)
            yield spec.name, numbers.reshape(spec.shape)
            start = stop
        for _ in chunks:  # reading to the end checks that all scales were used
            raise InvalidUpdateError("the update holds values past its last array")

    def check_finite(self) -> float:
        """Return the L2 norm over all arrays, computed in float64; afterwards every stream was checked.

        Raises:
            NonFiniteError: An array holds NaN or Inf; the error names it.
            InvalidUpdateError: A stream is not what the format allows.
        """
        total = 0.0
        for chunk in self.chunks():
            squares = sum_of_squares(chunk.values)
            if not math.isfinite(squares):
                raise NonFiniteError(self._array_with_bad_value(chunk))
            total += squares
        return math.sqrt(total)

    @cached_property
    def _scales(self) -> Float32Array:
        entry = self._entries.get(SCALES)
        if entry is None:
            return np.empty(0, np.float32)
        stored = np.frombuffer(self._bytes_of(SCALES), NUMPY_DTYPES[entry.spec.dtype])
        return widen_bfloat16(stored) if entry.spec.dtype == "BF16" else stored.astype(np.float32, copy=False)

    def _values_of(self, row: ChunkRow, stream: memoryview, reader: FrameReader) -> npt.NDArray[np.uint8]:
        size = self.coding.num_value_bytes(row.count)
        raw = stream if len(stream) == size else reader.read(stream, at_least=size, at_most=size)
        return np.frombuffer(raw, np.uint8)

    def _bytes_of(self, name: str) -> memoryview:
        entry: HeaderEntry = self._entries[name]
        return self._memory[entry.start : entry.stop]

    def _require_streams(self) -> None:
        sizes = {name: entry.spec.size for name, entry in self._entries.items()}
        expected = coded_layout(
            self.coding,
            size=self._stored.size,
            num_scales=sizes.get(SCALES, 0),
            index_bytes=sizes.get(INDEX, 0),
            value_bytes=sizes.get(VALUES, 0),
        )
        if {spec.name: spec for spec in expected} != {
            name: entry.spec for name, entry in self._entries.items()
        }:
            raise InvalidUpdateError(
                "the streams of the update are not those of its model and coding; expected "
                + ", ".join(str(spec) for spec in expected)
            )

    def _require_scales(self) -> None:
        counts = [self._runs.count(row.count) for row in self._rows]
        if None not in counts and self.coding.scales is not None:
            needed = sum(count for count in counts if count is not None)
            if needed != self._entries[SCALES].spec.size:
                raise InvalidUpdateError(
                    f"the update has {self._entries[SCALES].spec.size} scales, its values need {needed}"
                )

    def _array_with_bad_value(self, chunk: Chunk) -> str:
        bad = int(np.flatnonzero(~np.isfinite(chunk.values))[0])
        position = chunk.start + (bad if chunk.positions is None else int(chunk.positions[bad]))
        ends = np.cumsum([spec.size for spec in self.layout])
        return self.layout.names[int(np.searchsorted(ends, position, side="right"))]


def _read_coding(parsed: Header) -> Coding:
    try:
        return Coding.model_validate_json(parsed.metadata[CODING_KEY])
    except ValidationError as exc:
        problem = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InvalidUpdateError(
            f"the update's coding cannot be read: {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        ) from exc
