"""What the control plane refuses, and how: every error carries its HTTP status and a stable code.

::

    ControlPlaneError
    ├── BadRequestError            400  the request cannot be read: truncated, garbled
    ├── UnauthenticatedError       401  no token, or one that is wrong, expired, revoked or used up
    ├── ForbiddenError             403  the token is good, but lacks a scope
    ├── AbsentError                404  no such thing in this organization (also when it is another's)
    ├── ContradictionError         409  the request contradicts what is held already
    ├── RoundEndedError            410  the round takes no updates any more
    ├── WrongBaseError             412  the update was computed against another version
    ├── BodyTooLargeError          413  the body exceeds the limit
    ├── UnsupportedFormatError     415  the format is unknown, or its reader is not installed
    ├── InvalidContentError        422  readable, but wrong: names, shapes, values
    ├── NotOfferedError            501  a call of the contract that this control plane does not answer
    ├── UnavailableError           503  try again in a moment
    └── OutOfSpaceError            507  there is no room left for the body
    SetupError                          the operator's settings cannot work: fix them
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AbsentError",
    "BadRequestError",
    "BodyTooLargeError",
    "ContradictionError",
    "ControlPlaneError",
    "ForbiddenError",
    "InvalidContentError",
    "NotOfferedError",
    "OutOfSpaceError",
    "RoundEndedError",
    "SetupError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedFormatError",
    "WrongBaseError",
]


class ControlPlaneError(Exception):
    """A refusal; its message is one sentence that tells the caller what to do.

    Attributes:
        status_code: The HTTP status of the answer.
        code: The stable name that programs may compare.
        detail: The sentence.
    """

    status_code: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequestError(ControlPlaneError):
    """The request cannot be read."""

    status_code = 400
    code = "bad_request"


class UnauthenticatedError(ControlPlaneError):
    """There is no usable token."""

    status_code = 401
    code = "unauthenticated"


class ForbiddenError(ControlPlaneError):
    """The token does not allow this."""

    status_code = 403
    code = "forbidden"


class AbsentError(ControlPlaneError):
    """There is no such thing in the caller's organization."""

    status_code = 404
    code = "not_found"


class ContradictionError(ControlPlaneError):
    """The request contradicts what is held already."""

    status_code = 409
    code = "conflict"


class RoundEndedError(ControlPlaneError):
    """The round takes no updates any more."""

    status_code = 410
    code = "round_closed"


class WrongBaseError(ControlPlaneError):
    """The update belongs to another version than the round's."""

    status_code = 412
    code = "wrong_base"


class BodyTooLargeError(ControlPlaneError):
    """The body exceeds the limit."""

    status_code = 413
    code = "payload_too_large"


class UnsupportedFormatError(ControlPlaneError):
    """The body's format is unknown, or its reader is not installed here."""

    status_code = 415
    code = "unsupported_format"


class InvalidContentError(ControlPlaneError):
    """The body is readable, but wrong."""

    status_code = 422
    code = "invalid_content"


class NotOfferedError(ControlPlaneError):
    """The wire contract knows this call, this control plane does not answer it."""

    status_code = 501
    code = "not_offered"


class UnavailableError(ControlPlaneError):
    """Something needed is busy or down for now."""

    status_code = 503
    code = "unavailable"


class OutOfSpaceError(ControlPlaneError):
    """There is no room left where files are kept."""

    status_code = 507
    code = "insufficient_storage"


class SetupError(ValueError):
    """A setting cannot work; raised at start, shown to the operator, never sent to a device."""
