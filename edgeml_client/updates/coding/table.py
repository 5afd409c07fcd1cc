"""The table of a coded file: one row a chunk, checked before anything is decompressed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.coding.spec import CHUNK_LENGTH, Coding, IndexKind, num_chunks

__all__ = ["ChunkRow", "read_table"]


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """Where one chunk lies.

    Attributes:
        start: Its first position in the vector.
        span: How many positions it covers.
        count: How many values it holds.
        kind: How its index is coded.
        index: Its bytes in the stream of indices.
        values: Its bytes in the stream of values.
    """

    start: int
    span: int
    count: int
    kind: int
    index: slice
    values: slice


def read_table(
    table: memoryview, *, size: int, coding: Coding, index_bytes: int, value_bytes: int
) -> tuple[ChunkRow, ...]:
    """Return the rows of the table.

    Args:
        table: Four little-endian uint32 a chunk: values, index kind, index bytes, value bytes.
        size: The numbers in the vector.
        coding: How the values are coded.
        index_bytes: The length of the whole stream of indices.
        value_bytes: The length of the whole stream of values.

    Raises:
        InvalidUpdateError: A row contradicts the vector, the coding or the streams.
    """
    rows = np.frombuffer(table, np.dtype("<u4")).reshape(num_chunks(size), 4).tolist()
    read = tuple(_rows(rows, size=size, coding=coding))
    used = (read[-1].index.stop, read[-1].values.stop) if read else (0, 0)
    if used != (index_bytes, value_bytes):
        raise InvalidUpdateError("the chunks of the update do not use up its streams")
    return read


def _rows(rows: list[list[int]], *, size: int, coding: Coding) -> Iterator[ChunkRow]:
    index_start = values_start = 0
    for number, (count, kind, index_bytes, value_bytes) in enumerate(rows):
        start = number * CHUNK_LENGTH
        span = min(CHUNK_LENGTH, size - start)
        if count > span:
            raise InvalidUpdateError(f"chunk {number} claims {count} values at {span} positions")
        if not count and (kind != IndexKind.GAPS or index_bytes or value_bytes):
            raise InvalidUpdateError(f"chunk {number} has no values, but bytes for them")
        if value_bytes > coding.num_value_bytes(count):
            raise InvalidUpdateError(f"chunk {number} takes more bytes than its values uncompressed")
        yield ChunkRow(
            start=start,
            span=span,
            count=count,
            kind=kind,
            index=slice(index_start, index_start + index_bytes),
            values=slice(values_start, values_start + value_bytes),
        )
        index_start += index_bytes
        values_start += value_bytes
