"""From numbers to the file of a coded update."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import Float32Array, raw_bytes
from edgeml_client.updates.coding.factors import factored
from edgeml_client.updates.coding.frames import compress, compress_noise
from edgeml_client.updates.coding.index import encode_index
from edgeml_client.updates.coding.levels import have_one_magnitude, pack, quantize
from edgeml_client.updates.coding.runs import Runs
from edgeml_client.updates.coding.selection import Selected, count_to_keep, select_largest
from edgeml_client.updates.coding.spec import (
    CHUNK_LENGTH,
    CODING_KEY,
    UPDATE_KEY,
    Coding,
    IndexKind,
    coded_layout,
)
from edgeml_client.updates.layout import DType
from edgeml_client.updates.private_arrays import refuse_private
from edgeml_client.updates.safetensors_header import build_header
from edgeml_client.updates.vector import NumberSource

__all__ = ["encode_coded"]


def encode_coded(
    header: UpdateHeader,
    source: NumberSource,
    *,
    coding: Coding,
    fraction: float = 1.0,
    selected: Iterable[Selected] | None = None,
    largest_level: int | None = None,
    generator: np.random.Generator | None = None,
) -> bytes:
    """Return the file of a coded update; the same input without a generator always gives the same bytes.

    Args:
        header: The envelope.
        source: The delta, private arrays left out; it is read once, block by block.
        coding: How values are coded. With a rank, so are the factors of matrices instead of the matrices.
        fraction: The fraction of the numbers to send, above 0 and at most 1: the largest by magnitude.
        selected: What to send instead, for each chunk of the arrays or, with a rank, of what stands for them.
        largest_level: The largest magnitude of the integers; by default all that ``coding`` allows.
        generator: Rounds values at random, in expectation without error.

    Raises:
        InvalidUpdateError: The source holds NaN or Inf, or a private array.
    """
    refuse_private(header, source.layout.names)
    if coding.rank is not None:
        source = factored(source, rank=coding.rank)
    size = source.layout.size
    if selected is None:
        selected = select_largest(source, count=count_to_keep(size, fraction))
    streams = _Streams(coding, largest_level, generator)
    runs = Runs(source.layout, block=coding.block)
    for number, chunk in enumerate(selected):
        start = number * CHUNK_LENGTH
        streams.add_(chunk, start=start, stop=min(start + CHUNK_LENGTH, size), runs=runs)
    return streams.file(header, size=size)


@dataclass(slots=True)
class _Streams:
    """The streams of a file as they grow."""

    coding: Coding
    largest_level: int | None
    generator: np.random.Generator | None
    chunks: list[tuple[int, int, int, int]] = field(default_factory=list)
    index: list[bytes] = field(default_factory=list)
    values: list[bytes | memoryview] = field(default_factory=list)
    scales: list[Float32Array] = field(default_factory=list)

    def add_(self, selected: Selected, *, start: int, stop: int, runs: Runs) -> None:
        """Code one chunk, which covers the positions from ``start`` to ``stop``."""
        positions, values, span = selected.positions, selected.values, stop - start
        if positions.size == 0:
            self.chunks.append((0, IndexKind.GAPS, 0, 0))
            return
        kind, index = encode_index(positions, span=span, coding=self.coding)
        is_dense = kind is IndexKind.EVERY
        if is_dense and values.size < span:
            values = np.zeros(span, np.float32)
            values[positions] = selected.values
        lengths = runs.lengths(None if is_dense else positions, start=start, span=span)
        stream = self._code(values, lengths)
        self.chunks.append((values.size, kind, len(index), len(stream)))
        self.index.append(index)
        self.values.append(stream)

    def _code(self, values: Float32Array, runs: npt.NDArray[np.int64]) -> bytes | memoryview:
        if self.coding.values == "float32":
            return raw_bytes(values, dtype="F32")
        quantized = quantize(
            values,
            runs=runs,
            coding=self.coding,
            largest_level=self.largest_level,
            generator=self.generator,
        )
        self.scales.append(quantized.scales)
        raw = pack(quantized.levels, self.coding)
        frame = compress(raw)
        if have_one_magnitude(quantized.levels):
            frame = min(frame, compress_noise(raw), key=len)
        return frame if len(frame) < len(raw) else raw

    def file(self, header: UpdateHeader, *, size: int) -> bytes:
        """Return the file."""
        scales = np.concatenate(self.scales) if self.scales else np.empty(0, np.float32)
        specs = coded_layout(
            self.coding,
            size=size,
            num_scales=scales.size,
            index_bytes=_length(self.index),
            value_bytes=_length(self.values),
        )
        metadata = {
            UPDATE_KEY: header.model_dump_json(),
            CODING_KEY: self.coding.model_dump_json(exclude_none=True),
        }
        table = np.array(self.chunks, dtype="<u4").tobytes()
        dtype: DType = "BF16" if self.coding.scales == "bfloat16" else "F32"
        return b"".join(
            [build_header(specs, metadata), table, raw_bytes(scales, dtype=dtype), *self.index, *self.values]
        )


def _length(streams: Iterable[bytes | memoryview]) -> int:
    return sum(len(stream) for stream in streams)
