"""The one error tree of the SDK: a class for each thing a caller would do differently.

::

    EdgeMLClientError
    ├── ConfigurationError          the arguments or the environment are wrong: fix them
    │   ├── MissingExtraError       an optional dependency is absent: install it
    │   └── FilterConfigError       a filter's type, keys or values are wrong
    ├── AuthError                   no usable token: enrol the device again
    │   ├── NotEnrolledError        this device never enrolled, or its tokens are gone
    │   └── TokenStoreError         the token store cannot be read or written
    ├── ConnectionFailedError       no answer came: check the address, try again later
    ├── InvalidResponseError        something answered that is not a control plane
    ├── RequestRefusedError         the control plane said no (``status_code``)
    │   ├── UnauthorizedError       401
    │   ├── ForbiddenError          403
    │   ├── NotFoundError           404
    │   ├── ConflictError           409
    │   ├── RoundClosedError        410
    │   ├── StaleBaseError          412
    │   ├── PayloadTooLargeError    413
    │   ├── UnprocessableError      415, 422
    │   └── ServerFailedError       429 and every 5xx; 429, 502, 503, 504 after retries
    ├── ModelMismatchError          two models differ in names, shapes or dtypes
    ├── InvalidModelError           a model file cannot be read as it is
    ├── InvalidUpdateError          an update cannot be sent or accepted as it is
    │   ├── NonFiniteError          NaN or Inf in an array
    │   └── NormExceededError       the norm bound of the round is exceeded
    ├── RoundStateError             a step of a round was taken out of order
    ├── OutboxBusyError             another process sends this device's updates: stop it, or wait
    └── WaitTimeoutError            what was waited for did not happen in time: wait longer
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AuthError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "EdgeMLClientError",
    "FilterConfigError",
    "ForbiddenError",
    "InvalidModelError",
    "InvalidResponseError",
    "InvalidUpdateError",
    "MissingExtraError",
    "ModelMismatchError",
    "NonFiniteError",
    "NormExceededError",
    "NotEnrolledError",
    "NotFoundError",
    "OutboxBusyError",
    "PayloadTooLargeError",
    "RequestRefusedError",
    "RoundClosedError",
    "RoundStateError",
    "ServerFailedError",
    "StaleBaseError",
    "TokenStoreError",
    "UnauthorizedError",
    "UnprocessableError",
    "WaitTimeoutError",
    "refusal",
]


class EdgeMLClientError(RuntimeError):
    """Everything this SDK raises on purpose."""


class ConfigurationError(EdgeMLClientError, ValueError):
    """An argument or an environment variable has a value that cannot work."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is absent; the message holds the one command that installs it."""

    def __init__(self, purpose: str, *, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional dependency: pip install 'edgeml-lightning[{extra}]'")
        self.extra = extra


class AuthError(EdgeMLClientError):
    """There is no usable token for this device."""


class NotEnrolledError(AuthError):
    """The device has no tokens: call ``DeviceAuthClient.bootstrap`` with a bootstrap token."""


class TokenStoreError(AuthError):
    """The token store cannot be read or written."""


class ConnectionFailedError(EdgeMLClientError):
    """No answer came from the control plane, after all retries."""


class InvalidResponseError(EdgeMLClientError):
    """An answer came that does not follow the wire contract."""


@dataclass(eq=False)
class RequestRefusedError(EdgeMLClientError):
    """The control plane refused a request.

    Attributes:
        method: The HTTP method of the request.
        url: The address without its query, so that no secret is shown.
        status_code: The HTTP status of the answer.
        detail: What the control plane said.
        request_id: The control plane's name for this request, to look it up in its log.
    """

    method: str
    url: str
    status_code: int
    detail: str
    request_id: str | None = field(default=None)

    def __str__(self) -> str:
        suffix = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.method} {self.url} answered {self.status_code}: {self.detail}{suffix}"


class UnauthorizedError(RequestRefusedError):
    """The token is wrong, expired or revoked."""


class ForbiddenError(RequestRefusedError):
    """The token is good, but does not allow this."""


class NotFoundError(RequestRefusedError):
    """There is no such thing in this organization."""


class ConflictError(RequestRefusedError):
    """The request contradicts what the control plane already holds."""


class RoundClosedError(RequestRefusedError):
    """The round no longer takes updates."""


class StaleBaseError(RequestRefusedError):
    """The update was computed against another global version than the round's."""


class PayloadTooLargeError(RequestRefusedError):
    """The body is larger than the control plane accepts."""


class UnprocessableError(RequestRefusedError):
    """The body is well formed but wrong; the detail says what to change."""


class ServerFailedError(RequestRefusedError):
    """The control plane failed or is overloaded; 429, 502, 503 and 504 were tried again, other 5xx not."""


_BY_STATUS: dict[int, type[RequestRefusedError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: RoundClosedError,
    412: StaleBaseError,
    413: PayloadTooLargeError,
    415: UnprocessableError,
    422: UnprocessableError,
    429: ServerFailedError,
}


def refusal(
    *, method: str, url: str, status_code: int, detail: str, request_id: str | None = None
) -> RequestRefusedError:
    """Return the error that stands for an HTTP status of 400 or more."""
    fallback = ServerFailedError if status_code >= 500 else RequestRefusedError  # noqa: PLR2004 - HTTP
    kind = _BY_STATUS.get(status_code, fallback)
    return kind(method=method, url=url, status_code=status_code, detail=detail, request_id=request_id)


class ModelMismatchError(EdgeMLClientError, ValueError):
    """Two models differ; the message lists the names and shapes.

    Attributes:
        problems: One line per array that differs.
    """

    def __init__(self, summary: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = self.problems[:20]
        more = [f"... and {len(self.problems) - len(shown)} more"] if len(self.problems) > len(shown) else []
        super().__init__("\n  ".join([summary, *shown, *more]))


class InvalidModelError(EdgeMLClientError, ValueError):
    """A model file is malformed, truncated, or holds what a model may not hold."""


class InvalidUpdateError(EdgeMLClientError, ValueError):
    """An update cannot be sent, or accepted, as it is."""


class NonFiniteError(InvalidUpdateError):
    """An array holds NaN or Inf.

    Attributes:
        array_name: The first array in which one was found.
    """

    def __init__(self, array_name: str) -> None:
        super().__init__(
            f"array {array_name!r} holds NaN or Inf; training diverged: lower the learning rate, "
            "clip gradients, or check the data"
        )
        self.array_name = array_name


class NormExceededError(InvalidUpdateError):
    """The L2 norm of the whole update exceeds what ``norm_validation`` allows."""

    def __init__(self, *, norm: float, max_norm: float) -> None:
        super().__init__(
            f"the update's L2 norm {norm:.6g} exceeds max_norm {max_norm:.6g}; "
            "put gradient_clip before norm_validation, or train with a smaller step"
        )
        self.norm = norm
        self.max_norm = max_norm


class FilterConfigError(ConfigurationError):
    """A filter's type, keys or values are wrong, or it does not do what it declares."""


class RoundStateError(EdgeMLClientError):
    """A step of a round was taken out of order."""


class OutboxBusyError(EdgeMLClientError):
    """Another process or thread is sending the updates of this device."""


class WaitTimeoutError(EdgeMLClientError, TimeoutError):
    """What was waited for did not happen in time; nothing is lost by waiting again."""
