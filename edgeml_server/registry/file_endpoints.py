"""Downloading versions."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from edgeml_server._http.dependencies import Caller, Plane
from edgeml_server._http.files import file_response
from edgeml_server.registry.files import file_of_version
from edgeml_server.registry.links import FileClaim, open_ticket, sign_ticket

__all__ = ["DownloadLink", "router"]

router = APIRouter(tags=["files"])

Format = Annotated[str | None, Query(alias="format", pattern=r"^[a-z0-9_]{1,32}$")]


class DownloadLink(BaseModel):
    """``GET .../download-url``: a plain GET of ``url`` answers the file until ``expires_at_s``."""

    url: str
    format: str
    checksum: str
    size_bytes: int
    expires_at_s: int


@router.get("/models/{model_id}/versions/{version}/download")
def download(  # noqa: PLR0917 - FastAPI passes them by name
    model_id: str, version: str, request: Request, plane: Plane, caller: Caller, file_format: Format = None
) -> Response:
    """Answer the version's file in a format, by default its own."""
    found = file_of_version(plane, caller.org_id, model_id, version, file_format)
    return file_response(request, plane.blobs, found.blob)


@router.get("/models/{model_id}/versions/{version}/download-url")
def download_url(  # noqa: PLR0917 - FastAPI passes them by name
    model_id: str, version: str, request: Request, plane: Plane, caller: Caller, file_format: Format = None
) -> DownloadLink:
    """Answer a link to the version's file, which needs no token for a few minutes."""
    found = file_of_version(plane, caller.org_id, model_id, version, file_format)
    expires_at = plane.clock.now() + timedelta(seconds=plane.settings.download_url_ttl_s)
    claim = FileClaim(
        org_id=caller.org_id,
        model_id=model_id,
        version=found.held.version,
        format=found.format,
        expires_at_s=int(expires_at.timestamp()),
    )
    path = request.url_for("download_by_link", ticket=sign_ticket(claim, key=plane.key))
    base = plane.settings.public_url
    return DownloadLink(
        url=str(path) if base is None else base.rstrip("/") + path.path,
        format=found.format,
        checksum=found.blob.digest,
        size_bytes=found.blob.size_bytes,
        expires_at_s=claim.expires_at_s,
    )


@router.get("/files/{ticket}")
def download_by_link(ticket: str, request: Request, plane: Plane) -> Response:
    """Answer the file that a signed link names."""
    claim = open_ticket(ticket, key=plane.key, now=plane.clock.now())
    found = file_of_version(plane, claim.org_id, claim.model_id, claim.version, claim.format)
    return file_response(request, plane.blobs, found.blob)
