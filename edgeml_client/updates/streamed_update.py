"""The file of a dense update that is computed while it is read, so that it takes no memory of its own."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import raw_bytes
from edgeml_client.updates.coding.spec import UPDATE_KEY
from edgeml_client.updates.private_arrays import refuse_private
from edgeml_client.updates.safetensors_header import build_header
from edgeml_client.updates.update_file import UPDATE_CONTENT_TYPE
from edgeml_client.updates.vector import BLOCK, NumberSource

__all__ = ["StreamedUpdate", "UpdateData"]


class StreamedUpdate:
    """The bytes that ``encode_update`` returns, in pieces and as often as they are asked for.

    It is also a body that a transport sends.

    Args:
        header: The envelope.
        source: Finite numbers, as taking their norm shows, without the private arrays. What they are computed
            from must stay as it is: the bytes that are sent are computed again, and must have the digest of
            those that were stored.

    Raises:
        InvalidUpdateError: A private array is part of ``source``.
    """

    content_type = UPDATE_CONTENT_TYPE

    def __init__(self, header: UpdateHeader, source: NumberSource) -> None:
        refuse_private(header, source.layout.names)
        self.header = header
        self._source = source
        self._head = build_header(source.layout.specs, {UPDATE_KEY: header.model_dump_json()})

    @property
    def num_bytes(self) -> int:
        """The size of the file."""
        return len(self._head) + self._source.layout.num_bytes

    def pieces(self) -> Iterator[memoryview]:
        """Yield the file from its start; a piece stays as it is until the next but one is asked for."""
        yield memoryview(self._head)
        size = self._source.layout.size
        buffers = itertools.cycle([np.empty(min(size, BLOCK), np.float32) for _ in range(2)])
        for start in range(0, size, BLOCK):
            block = next(buffers)[: min(BLOCK, size - start)]
            self._source.read_into(block, start=start)
            yield raw_bytes(block, dtype="F32")

    def chunks(self) -> Iterator[bytes]:
        """Yield the file from its start, in pieces that stay as they are."""
        return map(bytes, self.pieces())

    def __bytes__(self) -> bytes:
        """Return the whole file."""
        file = io.BytesIO()  # joining the pieces would hold them all beside the result
        for piece in self.pieces():
            file.write(piece)
        return file.getvalue()


UpdateData: TypeAlias = bytes | StreamedUpdate
"""An update file, in memory or computed where it is read."""
