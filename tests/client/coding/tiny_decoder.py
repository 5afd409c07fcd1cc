"""A reader of coded updates written from docs/wire-format.md alone; it shares no code with the package.

It is slow and trusts its input: it shows that the document is enough, and what the golden files mean.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import zstandard

CHUNK = 1 << 20
LEVELS = {"int16": ("h", 2), "int8": ("b", 1)}


def read(data: bytes, shapes: dict[str, list[int]]) -> dict[str, list[float]]:
    """Return the numbers of each array that is not private, by the registered shapes of floating arrays."""
    header, streams = container(data)
    envelope = json.loads(header["edgeml.update"])
    assert envelope["format"] == "edgeml-delta/1"
    coding = json.loads(header["edgeml.coding"])
    names = sorted(name for name in shapes if name not in envelope["private"])
    parts = {name: stored_shapes(shapes[name], coding.get("rank")) for name in names}
    vector = iter(decode(coding, streams, [product(part) for name in names for part in parts[name]]))
    arrays = {}
    for name in names:
        numbers = [[next(vector) for _ in range(product(part))] for part in parts[name]]
        arrays[name] = numbers[0] if len(numbers) == 1 else multiplied(*numbers, rank=coding["rank"])
    return arrays


def stored_shapes(shape: list[int], rank: int | None) -> list[list[int]]:
    """Section 3.5."""
    if rank and len(shape) > 1 and product(shape):
        rows, columns = shape[0], product(shape[1:])
        if rank * (rows + columns) < rows * columns:
            return [[rows, rank], [rank, columns]]
    return [shape]


def multiplied(left: list[float], right: list[float], *, rank: int) -> list[float]:
    """Section 3.5."""
    rows, columns = len(left) // rank, len(right) // rank
    numbers = []
    for i in range(rows):
        for j in range(columns):
            total = float32(left[i * rank] * right[j])
            for t in range(1, rank):
                total = float32(total + float32(left[i * rank + t] * right[t * columns + j]))
            numbers.append(total)
    return numbers


def float32(number: float) -> float:
    """A product or a sum of two float32 numbers in double precision, rounded: the same as rounding once."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", number))
    return float(rounded)


def product(shape: list[int]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def container(data: bytes) -> tuple[dict[str, str], dict[str, bytes]]:
    """Section 1."""
    (length,) = struct.unpack("<Q", data[:8])
    described: dict[str, Any] = json.loads(data[8 : 8 + length])
    metadata = described.pop("__metadata__")
    body = data[8 + length :]
    streams = {name: body[slice(*entry["data_offsets"])] for name, entry in described.items()}
    return metadata, streams


def decode(coding: dict[str, Any], streams: dict[str, bytes], sizes: list[int]) -> list[float]:
    """Section 3."""
    n = sum(sizes)
    vector = [0.0] * n
    rows = struct.iter_unpack("<4I", streams["edgeml.chunks"])
    scales = iter(all_scales(coding, streams))
    index_at = values_at = 0
    for chunk, (count, kind, index_bytes, value_bytes) in enumerate(rows):
        start = chunk * CHUNK
        span = min(CHUNK, n - start)
        index = streams["edgeml.index"][index_at : index_at + index_bytes]
        values = streams["edgeml.values"][values_at : values_at + value_bytes]
        index_at, values_at = index_at + index_bytes, values_at + value_bytes
        if count:
            positions = [start + position for position in positions_of(kind, index, span)]
            assert len(positions) == count
            numbers = values_of(coding, values, count)
            if coding["values"] != "float32":
                numbers = scaled(numbers, runs_of(coding, positions, sizes), scales)
            for position, number in zip(positions, numbers, strict=True):
                vector[position] = number
    assert next(scales, None) is None
    return vector


def positions_of(kind: int, index: bytes, span: int) -> list[int]:
    """Section 3.1."""
    if kind == 0:
        return list(range(span))
    if kind == 2:
        return [i for i in range(span) if index[i // 8] >> (i % 8) & 1]
    positions, position, gap = [], -1, 0
    for byte in zstandard.decompress(index):
        gap += byte
        if byte != 255:
            position += gap + 1
            positions.append(position)
            gap = 0
    return positions


def values_of(coding: dict[str, Any], values: bytes, count: int) -> list[float]:
    """Section 3.2."""
    kind = coding["values"]
    size = {"float32": 4 * count, "int16": 2 * count, "int8": count, "int4": (count + 1) // 2}[kind]
    raw = values if len(values) == size else zstandard.decompress(values)
    assert len(raw) == size
    if kind == "float32":
        return list(struct.unpack(f"<{count}f", raw))
    if kind == "int4":
        halves = [half for byte in raw for half in (byte & 15, byte >> 4)]
        return [float(half - 16 if half > 7 else half) for half in halves[:count]]
    letter, _ = LEVELS[kind]
    return [float(level) for level in struct.unpack(f"<{count}{letter}", raw)]


def all_scales(coding: dict[str, Any], streams: dict[str, bytes]) -> list[float]:
    raw = streams.get("edgeml.scales", b"")
    if coding.get("scales") == "bfloat16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
    return [scale for (scale,) in struct.iter_unpack("<f", raw)]


def runs_of(coding: dict[str, Any], positions: list[int], sizes: list[int]) -> list[int]:
    """Section 3.3."""
    block = coding.get("block")
    if block:
        return [min(block, len(positions) - start) for start in range(0, len(positions), block)]
    runs, end = [], 0
    for size in sizes:
        end += size
        inside = sum(end - size <= position < end for position in positions)
        if inside:
            runs.append(inside)
    return runs


def scaled(levels: list[float], runs: list[int], scales: Any) -> list[float]:
    numbers, start = [], 0
    for run in runs:
        scale = next(scales)
        # Both factors have 24 bits, so the product is exact in double precision; packing rounds it once.
        numbers += [float32(level * scale) for level in levels[start : start + run]]
        start += run
    return numbers
