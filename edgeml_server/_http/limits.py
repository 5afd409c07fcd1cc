"""Body limits, enforced while the body streams in, before memory is spent."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from edgeml_server._http.problems import problem_response
from edgeml_server._http.silence import SilentSenderError, impatient
from edgeml_server.errors import BodyTooLargeError

if TYPE_CHECKING:
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from edgeml_server.settings import Settings

__all__ = ["BodyLimitMiddleware", "drain_body", "limit_of"]

_FILES: Final = re.compile(
    r"/api/v1/(models/[^/]+/versions/upload|training/rounds/[^/]+/(updates|secagg/(shares|masked|unmask)))"
)
_WEIGHTS: Final = re.compile(r"/api/v1/training/(weights|personalized/[^/]+)")
_MAX_DRAINED_BYTES: Final = 16 * 1024**2
"""A refused body is read and thrown away up to here, so that the sender gets to read the refusal."""


def limit_of(path: str, settings: Settings) -> int:
    """Return how many bytes the body of a request to ``path`` may have."""
    if _FILES.fullmatch(path):
        return settings.max_body_bytes
    if _WEIGHTS.fullmatch(path):
        return settings.max_weights_json_bytes
    return settings.max_json_bytes


class BodyLimitMiddleware:
    """Refuse a body that announces or reaches too many bytes, or that stops coming."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        receive = impatient(receive, self._settings.body_silence_s)
        limit = limit_of(scope["path"], self._settings)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            await drain_body(receive)
            await _refusal(scope, limit)(scope, receive, send)
        else:
            await self._app(scope, _counted(receive, limit), send)


def _counted(receive: Receive, limit: int) -> Receive:
    num_bytes = 0

    async def receive_counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        if message["type"] == "http.request":
            num_bytes += len(message.get("body", b""))
            if num_bytes > limit:
                if message.get("more_body", False):
                    await drain_body(receive)
                # The framework would turn any other exception raised while it reads a body into a 400.
                raise HTTPException(BodyTooLargeError.status_code, detail=_too_large(limit).detail)
        return message

    return receive_counted


async def drain_body(receive: Receive) -> None:
    """Read on for a while, so that a sender that is still sending gets to read the refusal."""
    num_bytes = 0
    with suppress(SilentSenderError):  # it is not sending any more
        while num_bytes < _MAX_DRAINED_BYTES:
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body", False):
                return


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"the body exceeds the limit of {limit} bytes for this call; send less, "
        "or raise the limit in the settings"
    )


def _refusal(scope: Scope, limit: int) -> JSONResponse:
    error = _too_large(limit)
    return problem_response(
        scope, error.status_code, detail=error.detail, code=error.code, headers={"Connection": "close"}
    )
