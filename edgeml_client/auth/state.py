"""The tokens of a device as values; none of them prints."""

from __future__ import annotations

import json
from datetime import datetime

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from edgeml_client.errors import TokenStoreError

__all__ = ["DeviceTokenState", "StoredToken"]


class DeviceTokenState(BaseModel):
    """What a device holds after it enrolled or refreshed.

    Attributes:
        access_token: Sent with every call; ``get_secret_value()`` shows it.
        refresh_token: Exchanged for the next pair, once.
        token_type: The authorization scheme.
        expires_at: When the access token stops working, by this machine's clock.
        org_id: The organization the device belongs to.
        device_identifier: The device.
        scopes: What the token allows.
    """

    model_config = ConfigDict(frozen=True)

    access_token: SecretStr
    refresh_token: SecretStr
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name, not a secret
    expires_at: datetime
    org_id: str
    device_identifier: str
    scopes: tuple[str, ...] = ()


class StoredToken(BaseModel):
    """What is kept between two starts of a program: enough to refresh, and under 1,280 characters.

    More than that, the Windows keyring does not hold.

    Attributes:
        refresh_token: The one that has not been exchanged yet.
        org_id: The organization the device belongs to.
        device_identifier: The device.
        base_url: The control plane it enrolled at; the token is never sent to another. Entries that other
            EdgeML clients wrote have none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    refresh_token: SecretStr
    org_id: str
    device_identifier: str
    base_url: str | None = None

    def to_text(self) -> str:
        """Return the secret text that a store keeps."""
        fields = self.model_dump(exclude_none=True) | {"refresh_token": self.refresh_token.get_secret_value()}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str, *, place: str) -> StoredToken:
        """Return what :meth:`to_text` wrote.

        Args:
            text: The content of the entry.
            place: Where it was found, for the message.

        Raises:
            TokenStoreError: The text is something else.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            raise TokenStoreError(
                f"the entry in {place} is not a device token: remove it with clear_token_state(), "
                "then enrol the device again with DeviceAuthClient.bootstrap"
            ) from None
