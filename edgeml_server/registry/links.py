"""Signed links: an address that lets its holder fetch one file for a few minutes, without a token."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeml_server.errors import ForbiddenError

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["FileClaim", "open_ticket", "sign_ticket"]


class FileClaim(BaseModel):
    """What a link allows.

    Attributes:
        expires_at_s: Seconds since 1970, UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    org_id: str
    model_id: str
    version: str
    format: str
    expires_at_s: int


def sign_ticket(claim: FileClaim, *, key: bytes) -> str:
    """Return the claim and its signature, fit for an address."""
    body = base64.urlsafe_b64encode(claim.model_dump_json().encode()).decode().rstrip("=")
    return f"{body}.{_signature(body, key)}"


def open_ticket(ticket: str, *, key: bytes, now: datetime) -> FileClaim:
    """Return what the ticket allows.

    Raises:
        ForbiddenError: It is forged, garbled or expired.
    """
    body, _, signature = ticket.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(body, key).encode()):
        _refuse()
    try:
        claim = FileClaim.model_validate_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValidationError, binascii.Error, ValueError) as exc:  # signed by an older version of this code
        raise ForbiddenError("this download link is not understood any more; ask for a new one") from exc
    if now >= datetime.fromtimestamp(claim.expires_at_s, UTC):
        raise ForbiddenError("this download link has expired; ask for a new one")
    return claim


def _refuse() -> NoReturn:
    raise ForbiddenError("this download link is not one of ours; ask for a new one")


def _signature(body: str, key: bytes) -> str:
    return hmac.new(key, b"download:" + body.encode(), hashlib.sha256).hexdigest()
