"""Device auth on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, SecretStr, StringConstraints

from edgeml_client.schemas._record import Record, WireBody

__all__ = ["BootstrapRequest", "Identifier", "RefreshRequest", "RevokeRequest", "TokenResponse"]

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name chosen by people: printable, not empty, at most 255 characters."""


class BootstrapRequest(WireBody):
    """``POST /device-auth/bootstrap``, with the bootstrap token as Bearer."""

    org_id: Identifier
    device_identifier: Identifier
    scopes: tuple[str, ...] = ("devices:write",)
    access_ttl_seconds: int | None = Field(default=None, ge=1, le=3600)
    device_id: str | None = None


class RefreshRequest(WireBody):
    """``POST /device-auth/refresh``, without a Bearer."""

    refresh_token: SecretStr


class RevokeRequest(WireBody):
    """``POST /device-auth/revoke``, without a Bearer."""

    refresh_token: SecretStr
    reason: str = Field(default="sdk_revoke", max_length=255)


class TokenResponse(Record):
    """The token state that bootstrap and refresh answer.

    Either ``expires_at`` or ``expires_in`` (seconds) says when the access token expires.
    """

    access_token: SecretStr
    refresh_token: SecretStr
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name, not a secret
    expires_at: datetime | None = None
    expires_in: int | None = None
    org_id: str
    device_identifier: str
    scopes: tuple[str, ...] = ()
