"""The three calls of device auth; what they bring is kept by the caller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pydantic import JsonValue

from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.tokens import checked_token
from edgeml_client.auth.freshness import Lease, lifetime_s
from edgeml_client.auth.state import DeviceTokenState, StoredToken
from edgeml_client.clock import Clock
from edgeml_client.errors import AuthError, InvalidResponseError, NotEnrolledError, UnauthorizedError
from edgeml_client.schemas import TokenResponse

__all__ = ["HeldToken", "TokenCalls"]

API_PATH: Final = "/api/v1"


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldToken:
    """A pair of tokens in memory, and how long the access token lives."""

    state: DeviceTokenState
    lease: Lease


class TokenCalls:
    """Speaks device auth for one device.

    Args:
        base_url: Address of the control plane, without ``/api/v1``.
        org_id: The organization.
        device_identifier: The device.
        timeout_s: Longest silence of the control plane, in seconds.
        max_attempts: How often a call is tried.
        clock: Tells the time.
    """

    def __init__(
        self,
        *,
        base_url: str,
        org_id: str,
        device_identifier: str,
        timeout_s: float,
        max_attempts: int,
        clock: Clock,
    ) -> None:
        self._base_url = base_url
        self._org_id = org_id
        self._device_identifier = device_identifier
        self._clock = clock
        self._transport = HttpTransport(
            api_base=base_url + API_PATH,
            auth_token_provider=None,
            timeout=timeout_s,
            max_attempts=max_attempts,
            clock=clock,
        )

    def bootstrap(
        self, token: str, *, scopes: tuple[str, ...], access_ttl_s: int | None, device_id: str | None
    ) -> HeldToken:
        """Exchange a bootstrap token for the device's first pair.

        Raises:
            AuthError: The bootstrap token is malformed, wrong, expired or used up.
            RequestRefusedError, ConnectionFailedError, InvalidResponseError: As for every call.
        """
        bearer = checked_token(token, what="the bootstrap token", remedy="pass it exactly as it was issued")
        body: dict[str, JsonValue] = {
            "org_id": self._org_id,
            "device_identifier": self._device_identifier,
            "scopes": list(scopes),
        }
        if access_ttl_s is not None:
            body["access_ttl_seconds"] = access_ttl_s
        if device_id is not None:
            body["device_id"] = device_id
        try:
            return self._exchange("bootstrap", body, headers={"Authorization": f"Bearer {bearer}"})
        except UnauthorizedError as exc:
            raise AuthError(
                f"{self._base_url} refused the bootstrap token ({exc.detail}): it works once, for a "
                "limited time and perhaps for one device only; ask the operator for a new one"
            ) from exc

    def refresh(self, stored: StoredToken, *, max_attempts: int | None = None) -> HeldToken:
        """Exchange a refresh token for the next pair.

        Raises:
            NotEnrolledError: The control plane no longer accepts the token.
            RequestRefusedError, ConnectionFailedError, InvalidResponseError: As for every call.
        """
        body: dict[str, JsonValue] = {"refresh_token": stored.refresh_token.get_secret_value()}
        try:
            return self._exchange("refresh", body, max_attempts=max_attempts)
        except UnauthorizedError as exc:
            raise NotEnrolledError(
                f"{self._base_url} no longer accepts the tokens of {self._org_id}:{self._device_identifier} "
                f"({exc.detail}): call DeviceAuthClient.bootstrap with a new bootstrap token"
            ) from exc

    def revoke(self, stored: StoredToken, *, reason: str) -> None:
        """Make the control plane forget the tokens; to have forgotten them already is as good.

        Raises:
            RequestRefusedError, ConnectionFailedError, InvalidResponseError: As for every call.
        """
        body: dict[str, JsonValue] = {
            "refresh_token": stored.refresh_token.get_secret_value(),
            "reason": reason,
        }
        try:
            self._transport.call("POST", "/device-auth/revoke", type(None), body=body)
        except UnauthorizedError:
            return
        finally:
            self._transport.close()

    def _exchange(
        self,
        call: str,
        body: dict[str, JsonValue],
        *,
        headers: dict[str, str] | None = None,
        max_attempts: int | None = None,
    ) -> HeldToken:
        asked_at, asked_monotonic_s = self._clock.now(), self._clock.monotonic_s()
        try:
            answer = self._transport.call(
                "POST",
                f"/device-auth/{call}",
                TokenResponse,
                body=body,
                headers=headers,
                max_attempts=max_attempts,
            )
        finally:
            self._transport.close()  # the next call is minutes away: no idle connection until then
        if (answer.org_id, answer.device_identifier) != (self._org_id, self._device_identifier):
            raise InvalidResponseError(
                f"{self._base_url} answered tokens of {answer.org_id}:{answer.device_identifier}, "
                f"not of {self._org_id}:{self._device_identifier}: check org_id and the bootstrap token"
            )
        lease = Lease(
            lifetime_s=lifetime_s(expires_in_s=answer.expires_in, expires_at=answer.expires_at, now=asked_at),
            asked_at=asked_at,
            asked_monotonic_s=asked_monotonic_s,
        )
        return HeldToken(state=_state(answer, lease), lease=lease)


def _state(answer: TokenResponse, lease: Lease) -> DeviceTokenState:
    return DeviceTokenState(
        access_token=answer.access_token,
        refresh_token=answer.refresh_token,
        token_type=answer.token_type,
        expires_at=lease.asked_at + timedelta(seconds=lease.lifetime_s),
        org_id=answer.org_id,
        device_identifier=answer.device_identifier,
        scopes=answer.scopes,
    )
