"""What came back, turned into a value or into the error that stands for it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast

import httpx
from pydantic import TypeAdapter, ValidationError

from edgeml_client.errors import InvalidResponseError, RequestRefusedError, refusal

__all__ = ["Answer", "parse_answer", "read_answer", "refused", "shown_url"]

T = TypeVar("T")

SHOWN_CHARACTERS: Final = 200
_TAG: Final = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)

_LONG_SEGMENT: Final = re.compile(r"(?<=/)[^/]{80,}")

_HINTS: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "the token is missing, wrong, expired or revoked: enrol the device again",
    HTTPStatus.FORBIDDEN: "the token does not allow this: use one with the scope this call needs",
    HTTPStatus.NOT_FOUND: "check the id, and that EDGEML_API_BASE ends in /api/v1",
    HTTPStatus.TOO_MANY_REQUESTS: "the control plane is overloaded: try again later",
}
_OTHER_BASE: Final = "if this address is no part of the API, let EDGEML_API_BASE end in /api/v1"
_UNAUTHENTICATED: Final = (
    "this client has no tokens: pass auth_token_provider=auth.get_access_token_sync, or make it with "
    "edgeml_client.connect()"
)
_ENROLMENT: Final = "/device-auth/"
_SERVER_FAILED: Final = "the control plane failed: try again later, and look for this request in its log"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An answer whose body is in memory.

    Attributes:
        url: The address without credentials, query and fragment, which may hold secrets.
        had_token: Whether the request carried one.
    """

    method: str
    url: str
    status_code: int
    headers: httpx.Headers
    content: bytes
    had_token: bool = True


def shown_url(url: httpx.URL) -> str:
    """Return ``url`` without what may be secret: credentials, query, fragment, and very long path segments.

    The links that servers sign carry their signature in one of these places.
    """
    plain = str(url.copy_with(username=None, password=None, query=None, fragment=None))
    return _LONG_SEGMENT.sub("...", plain)


def read_answer(response: httpx.Response, *, max_bytes: int) -> Answer:
    """Read at most ``max_bytes`` of the decoded body, and no further."""
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk[: max_bytes - len(content)]
        if len(content) >= max_bytes:
            break
    return Answer(
        method=response.request.method,
        url=shown_url(response.request.url),
        status_code=response.status_code,
        headers=response.headers,
        content=bytes(content),
        had_token="authorization" in response.request.headers,
    )


def parse_answer(answer: Answer, form: type[T] | TypeAdapter[T]) -> T:
    """Return the body as ``form``; an empty body counts as an empty JSON object.

    Raises:
        InvalidResponseError: The body is not JSON, or not of that form.
    """
    adapter = form if isinstance(form, TypeAdapter) else _adapter(form)
    content = b"null" if form is type(None) else answer.content or b"{}"
    try:
        return adapter.validate_json(content)
    except ValidationError as exc:
        raise InvalidResponseError(_what_is_wrong(answer, exc)) from None


_ADAPTERS: Final[dict[object, TypeAdapter[Any]]] = {}


def _adapter(form: type[T]) -> TypeAdapter[T]:
    """Return the parser of a form, built once: building one takes far longer than using it."""
    return _ADAPTERS.setdefault(form, _ADAPTERS.get(form) or TypeAdapter(form))


def _what_is_wrong(answer: Answer, error: ValidationError) -> str:
    found = f"{answer.method} {answer.url} answered {answer.status_code}"
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        kind = answer.headers.get("content-type", "no content type").split(";")[0]
        return (
            f"{found} with {kind} that is not JSON ({_excerpt(_text(answer))!r}): "
            "check that EDGEML_API_BASE is the address of a control plane and ends in /api/v1"
        )
    place = ".".join(str(part) for part in first["loc"]) or "the whole answer"
    return f"{found}, but not as the wire contract says ({place}: {first['msg']}): check the server's version"


def refused(answer: Answer) -> RequestRefusedError:
    """Return the error for an answer with a status of 400 or more."""
    status = answer.status_code
    said, request_id = _explanation(answer)
    parts = [said or _excerpt(_text(answer)) or "no reason given"]
    if said is None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        parts.append(_SERVER_FAILED)
    elif said is None and status in _HINTS:
        parts.append(_HINTS[status])
    elif status == HTTPStatus.UNAUTHORIZED and not (answer.had_token or _ENROLMENT in answer.url):
        parts.append(_UNAUTHENTICATED)
    elif status == HTTPStatus.NOT_FOUND and "/api/v1/" not in answer.url:
        parts.append(_OTHER_BASE)
    return refusal(
        method=answer.method,
        url=answer.url,
        status_code=status,
        detail="; ".join(parts),
        request_id=answer.headers.get("x-request-id") or request_id,
    )


def _explanation(answer: Answer) -> tuple[str | None, str | None]:
    """Return what a control plane said of its refusal, and its name for the request."""
    try:
        body: object = json.loads(answer.content)
    except ValueError:
        return None, None
    if not isinstance(body, dict) or not (fields := cast("dict[str, Any]", body)).get("detail"):
        return None, None
    detail, request_id = fields["detail"], fields.get("request_id")
    complaints = cast("list[object]", detail) if isinstance(detail, list) else [detail]
    said = "; ".join(map(_complaint, complaints))
    return _excerpt(said, limit=2_000), request_id if isinstance(request_id, str) else None


def _complaint(item: object) -> str:
    """Return one entry of a list of validation errors as text."""
    if not isinstance(item, dict):
        return str(item)
    fields = cast("dict[str, Any]", item)
    loc: object = fields.get("loc")
    place = ".".join(map(str, cast("list[object]", loc))) if isinstance(loc, list) else str(loc)
    return f"{place}: {fields.get('msg', '')}"


def _text(answer: Answer) -> str:
    return answer.content.decode("utf-8", errors="replace")


def _excerpt(text: str, *, limit: int = SHOWN_CHARACTERS) -> str:
    """Return the start of ``text`` on one line, without markup and control characters."""
    plain = " ".join(_TAG.sub(" ", text[: 20 * limit]).split())
    printable = "".join(character for character in plain if character.isprintable())
    return printable if len(printable) <= limit else printable[:limit] + "..."
