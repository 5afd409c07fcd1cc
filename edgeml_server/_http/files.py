"""Answering a stored file: resumable, and not again to those who have it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from typing_extensions import override

from edgeml_server._http.digests import digest_field

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from edgeml_server.blobs import BlobStore, StoredBlob

__all__ = ["file_response"]


class _FileInLargePieces(FileResponse):
    """Reads 1 MiB at a time: each piece visits another thread, which costs more than reading 64 KiB."""

    chunk_size = 1 << 20

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_what_is_no_refusal(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= HTTPStatus.BAD_REQUEST:
                raise _refused_range(message)  # it would be answered as plain text
            await send(message)

        await super().__call__(scope, receive, send_what_is_no_refusal)


def _refused_range(start: Message) -> HTTPException:
    size = Headers(raw=start["headers"]).get("content-range")
    return HTTPException(
        start["status"],
        detail="the header Range asks for no part of this file: say bytes=FIRST-LAST, or leave it out",
        headers=None if size is None else {"Content-Range": size},
    )


def file_response(request: Request, store: BlobStore, blob: StoredBlob) -> Response:
    """Return the file, or the part that ``Range`` asks for, or 304 if ``If-None-Match`` has it.

    The ``ETag`` is the digest: what a client holds under it can never be stale. ``Repr-Digest`` is about the
    whole file also in a partial answer.
    """
    etag = f'"{blob.digest}"'
    headers = {"ETag": etag, "Repr-Digest": digest_field(blob.digest), "Cache-Control": "private, no-cache"}
    if _has_it(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return _FileInLargePieces(store.path(blob.digest), media_type="application/octet-stream", headers=headers)


def _has_it(if_none_match: str | None, etag: str) -> bool:
    held = [part.strip().removeprefix("W/") for part in (if_none_match or "").split(",")]
    return etag in held or "*" in held
