"""From a vector to the file of a coded update; what the file does not hold stays in the vector."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import raw_bytes
from edgeml_client.updates.coding.frames import compress
from edgeml_client.updates.coding.index import encode_index
from edgeml_client.updates.coding.levels import pack, quantize
from edgeml_client.updates.coding.runs import Runs
from edgeml_client.updates.coding.selection import Positions, count_to_keep, select_largest
from edgeml_client.updates.coding.spec import (
    CHUNK_LENGTH,
    CODING_KEY,
    UPDATE_KEY,
    Coding,
    IndexKind,
    coded_layout,
)
from edgeml_client.updates.layout import DType
from edgeml_client.updates.safetensors_header import build_header
from edgeml_client.updates.vector import DeltaVector

__all__ = ["encode_coded_"]

Float32Array = npt.NDArray[np.float32]


def encode_coded_(
    header: UpdateHeader,
    vector: DeltaVector,
    *,
    coding: Coding,
    fraction: float = 1.0,
    selected: Sequence[Positions] | None = None,
    largest_level: int | None = None,
    generator: np.random.Generator | None = None,
) -> bytes:
    r"""Return the file of a coded update, and leave in ``vector`` what a reader of the file will miss.

    With :math:`x` the vector before and :math:`\hat x` what the file decodes to, the vector afterwards is
    :math:`x - \hat x`, computed in float32. Without a generator :math:`\hat x + (x - \hat x)` gives
    :math:`x` back bit by bit wherever :math:`\hat x` is within a factor of two of :math:`x` or zero, which
    nearest rounding makes certain but for the rounding of the multiplication itself.

    Args:
        header: The envelope.
        vector: The delta, private arrays left out; it is overwritten.
        coding: How values are coded.
        fraction: The fraction of the numbers to send, above 0 and at most 1: the largest by magnitude.
        selected: The positions to send instead, for each chunk, ascending and relative to its start.
        largest_level: The largest magnitude of the integers; by default all that ``coding`` allows.
        generator: Rounds values at random, in expectation without error.

    Raises:
        InvalidUpdateError: The vector holds NaN or Inf, or a private array.
    """
    leaking = sorted(set(header.private) & set(vector.layout.names))
    if leaking:
        raise InvalidUpdateError(f"private arrays must stay on the device, but the delta holds {leaking}")
    if selected is None:
        selected = select_largest(vector.values, count=count_to_keep(vector.values.size, fraction))
    else:
        vector.norm()
    streams = _Streams(coding, largest_level, generator)
    runs = Runs(vector.layout, block=coding.block)
    for number, positions in enumerate(selected):
        start = number * CHUNK_LENGTH
        part = vector.values[start : start + CHUNK_LENGTH]
        streams.add_(part, positions, start=start, runs=runs)
    return streams.file(header, size=vector.values.size)


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

    def add_(self, part: Float32Array, positions: Positions, *, start: int, runs: Runs) -> None:
        """Code one chunk, and subtract from it what was coded."""
        if positions.size == 0:
            self.chunks.append((0, IndexKind.GAPS, 0, 0))
            return
        kind, index = encode_index(positions, span=part.size, coding=self.coding)
        is_dense = kind is IndexKind.EVERY
        values = part[positions]
        if is_dense and values.size < part.size:
            selected, values = values, np.zeros_like(part)
            values[positions] = selected
        stream, decoded = self._code(
            values, runs.lengths(None if is_dense else positions, start=start, span=part.size)
        )
        if is_dense:
            part -= decoded
        else:
            part[positions] = values - decoded
        self.chunks.append((values.size, kind, len(index), len(stream)))
        self.index.append(index)
        self.values.append(stream)

    def _code(
        self, values: Float32Array, runs: npt.NDArray[np.int64]
    ) -> tuple[bytes | memoryview, Float32Array]:
        if self.coding.values == "float32":
            return raw_bytes(values, dtype="F32"), values
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
        return (frame if len(frame) < len(raw) else raw), quantized.decoded

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
