"""The JSON form of every refusal: ``detail``, ``code``, ``request_id``."""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from edgeml_server._http.request_id import request_id
from edgeml_server.errors import (
    BadRequestError,
    BodyTooLargeError,
    ControlPlaneError,
    InvalidContentError,
    OutOfSpaceError,
    UnauthenticatedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import Scope

__all__ = ["answer_problems", "problem_response", "validation_sentence"]

_LOG = logging.getLogger(__name__)

_CODES: Final = {
    400: BadRequestError.code,
    404: "not_found",
    405: "method_not_allowed",
    413: BodyTooLargeError.code,
    422: InvalidContentError.code,
}
_MAX_SHOWN_PROBLEMS: Final = 5
_OUT_OF_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def answer_problems(app: FastAPI) -> None:
    """Make ``app`` answer every refusal in our form."""
    app.add_exception_handler(ControlPlaneError, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ClientDisconnect, _truncated)
    app.add_exception_handler(OSError, _out_of_space)


def problem_response(
    scope: Scope, status_code: int, *, detail: str, code: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer to the request of ``scope``."""
    content = {"detail": detail, "code": code, "request_id": request_id(scope)}
    return JSONResponse(content, status_code=status_code, headers=dict(headers or {}))


def validation_sentence(errors: Sequence[Any]) -> str:
    """Return pydantic's findings as one sentence that names each field and what is wrong with it."""
    shown = [
        f"{_field(error['loc'])}: {_lower_first(error['msg'])}" for error in errors[:_MAX_SHOWN_PROBLEMS]
    ]
    if len(errors) > _MAX_SHOWN_PROBLEMS:
        shown.append(f"and {len(errors) - _MAX_SHOWN_PROBLEMS} more")
    return "the request is not valid: " + "; ".join(shown)


def _refused(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ControlPlaneError):  # pragma: no cover - the handler is registered for these
        raise error
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, UnauthenticatedError) else {}
    return problem_response(
        request.scope, error.status_code, detail=error.detail, code=error.code, headers=headers
    )


def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):  # pragma: no cover - the handler is registered for these
        raise error
    status = error.status_code
    detail = str(error.detail)
    if detail == HTTPStatus(status).phrase:  # the framework's own, which says nothing
        call = f"{request.method} {request.url.path}"
        unknown = status == HTTPStatus.NOT_FOUND
        detail = f"this control plane does not serve {call}" if unknown else f"{call}: {detail.lower()}"
    code = _CODES.get(status, HTTPStatus(status).name.lower())
    return problem_response(request.scope, status, detail=detail, code=code, headers=error.headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(
        error, RequestValidationError
    ):  # pragma: no cover - the handler is registered for these
        raise error
    errors = error.errors()
    if any(found["type"] == "json_invalid" for found in errors):
        detail = "the body is not valid JSON; was it cut short?"
        return problem_response(request.scope, 400, detail=detail, code=BadRequestError.code)
    return problem_response(
        request.scope, 422, detail=validation_sentence(errors), code=InvalidContentError.code
    )


def _truncated(request: Request, _error: Exception) -> JSONResponse:
    return problem_response(
        request.scope, 400, detail="the body ended too early; send it again", code=BadRequestError.code
    )


def _out_of_space(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, OSError) or error.errno not in _OUT_OF_SPACE:
        raise error
    _LOG.error("%s %s is refused, files cannot grow here: %s", request.method, request.url.path, error)
    refusal = OutOfSpaceError("the disk of the control plane is full; send it again once there is room")
    return _refused(request, refusal)


def _field(location: Sequence[Any]) -> str:
    parts = [str(part) for part in location if part not in {"body", "query", "path", "header"}]
    return ".".join(parts) or "body"


def _lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]
