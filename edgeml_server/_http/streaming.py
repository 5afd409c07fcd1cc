"""A body that is a file, streamed into the blob store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from edgeml_server._http.digests import parse_digest_field
from edgeml_server.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from starlette.requests import Request

    from edgeml_server.blobs import BlobStore, BlobWriter, StoredBlob

__all__ = ["blob_writer", "in_larger_pieces", "receive_blob"]

_PIECE_BYTES: Final = 1024**2
"""Writing waits for the disk in a thread, once for each piece; smaller ones would hop too often."""


async def receive_blob(request: Request, store: BlobStore) -> StoredBlob:
    """Store the body of a request, checked against its ``Content-Digest`` if it has one.

    Memory holds about one piece of 1 MiB, whatever the body's length.

    Raises:
        BadRequestError: The body ended too early, or is not what its digest says; nothing is stored.
    """
    announced = request.headers.get("content-digest")
    expected = None if announced is None else parse_digest_field(announced)
    async with blob_writer(store) as writer:
        async for piece in in_larger_pieces(request.stream()):
            await asyncio.to_thread(writer.write, piece)
        if expected is not None and writer.digest != expected:
            raise BadRequestError("the body is not what its Content-Digest says; send it again")
        return await asyncio.to_thread(writer.commit)


@asynccontextmanager
async def blob_writer(store: BlobStore) -> AsyncGenerator[BlobWriter]:
    """Begin a blob; what is not committed when the block is left is forgotten."""
    writer = await asyncio.to_thread(store.writer)
    try:
        yield writer
    finally:
        await asyncio.to_thread(writer.discard)


async def in_larger_pieces(chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Join small chunks, so that each piece but the last has at least 1 MiB.

    Raises:
        BadRequestError: The sender went away before the end.
    """
    pending = bytearray()
    try:
        async for chunk in chunks:
            pending += chunk
            if len(pending) >= _PIECE_BYTES:
                yield bytes(pending)
                pending.clear()
    except ClientDisconnect as exc:
        raise BadRequestError("the body ended too early; send it again") from exc
    if pending:
        yield bytes(pending)
