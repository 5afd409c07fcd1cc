"""Answering a stored file: resumable, and not again to those who have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import FileResponse, Response

from edgeml_server._http.digests import digest_field

if TYPE_CHECKING:
    from starlette.requests import Request

    from edgeml_server.blobs import BlobStore, StoredBlob

__all__ = ["file_response"]


class _FileInLargePieces(FileResponse):
    """Reads 1 MiB at a time: each piece visits another thread, which costs more than reading 64 KiB."""

    chunk_size = 1 << 20


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
