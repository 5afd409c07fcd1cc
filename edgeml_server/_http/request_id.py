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

    from edgeml_client.clock import Clock

__all__ = ["RequestIdMiddleware", "request_id"]

_LOG = logging.getLogger(__name__)
_ACCESS: Final = logging.getLogger("edgeml_server.access")
_HEADER: Final = "X-Request-ID"
_ACCEPTABLE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TICKET: Final = re.compile(r"(?<=/files/).*")


def request_id(scope: Scope) -> str | None:
    """Return the name of the request, ``None`` outside the middleware."""
    found = scope.get("edgeml_request_id")
    return None if found is None else str(found)


class RequestIdMiddleware:
    """Name each request (its own ``X-Request-ID`` if it has a plain one) and repeat the name in the answer.

    Each answer is one line in the log ``edgeml_server.access``, written when it begins, without the query and
    without what would let a reader of the log repeat the request. A failure nobody expected is logged under
    the request's name and answered as a 500 without a traceback.
    """

    def __init__(self, app: ASGIApp, *, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get(_HEADER, "")
        name = offered if _ACCEPTABLE.fullmatch(offered) else uuid.uuid4().hex
        scope["edgeml_request_id"] = name
        path = _TICKET.sub("...", scope["path"])
        began_s = self._clock.monotonic_s()
        is_answered = False

        async def send_named(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                MutableHeaders(scope=message)[_HEADER] = name
                duration_ms = 1000 * (self._clock.monotonic_s() - began_s)
                line = "%s %s %s %.1f ms, request %s"
                _ACCESS.info(line, message["status"], scope["method"], path, duration_ms, name)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception:  # the outermost frame: the caller gets an answer, the log the cause
            _LOG.exception("request %s failed: %s %s", name, scope["method"], path)
            if is_answered:
                raise
            await _failure(name)(scope, receive, send_named)


def _failure(name: str) -> JSONResponse:
    detail = "the control plane failed; tell its operator the request id"
    content = {"detail": detail, "code": "internal_error", "request_id": name}
    return JSONResponse(content, status_code=500)
