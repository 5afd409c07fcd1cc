"""A name for each request, in the answer, in errors and in the log; and the last resort for failures."""

from __future__ import annotations

import logging
import re
import uuid
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestIdMiddleware", "request_id"]

_LOG = logging.getLogger(__name__)
_HEADER: Final = "X-Request-ID"
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(scope: Scope) -> str | None:
    """Return the name of the request, ``None`` outside the middleware."""
    found = scope.get("edgeml_request_id")
    return None if found is None else str(found)


class RequestIdMiddleware:
    """Name each request (its own ``X-Request-ID`` if it has a plain one) and repeat the name in the answer.

    A failure nobody expected is logged under that name and answered as a 500 without a traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get(_HEADER, "")
        name = offered if _ACCEPTABLE.fullmatch(offered) else uuid.uuid4().hex
        scope["edgeml_request_id"] = name
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)[_HEADER] = name
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except (
            Exception
        ):  # the outermost frame: whatever it is, the caller gets an answer and the log the cause
            _LOG.exception("request %s failed: %s %s", name, scope["method"], scope["path"])
            if started:
                raise
            detail = "the control plane failed; tell its operator the request id"
            content = {"detail": detail, "code": "internal_error", "request_id": name}
            await JSONResponse(content, status_code=500)(scope, receive, send_named)
