"""A body that streams in, in pieces worth writing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from edgeml_server.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

__all__ = ["in_larger_pieces"]

_PIECE_BYTES: Final = 1024**2
"""Writing waits for the disk in a thread, once for each piece; smaller ones would hop too often."""


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
