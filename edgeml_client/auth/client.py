"""The client that enrols a device and keeps its tokens fresh."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from typing_extensions import override

from edgeml_client.auth.calls import API_PATH, HeldToken, TokenCalls
from edgeml_client.auth.freshness import Freshness, judge, remaining_s
from edgeml_client.auth.locking import LockBusyError
from edgeml_client.auth.shelf import LOCK_TIMEOUT_S, TokenShelf
from edgeml_client.auth.state import DeviceTokenState
from edgeml_client.auth.stores import TokenStore, open_token_store
from edgeml_client.clock import Clock, SystemClock
from edgeml_client.config import TokenStorage, check_address, check_name, resolve_token_storage
from edgeml_client.errors import (
    ConnectionFailedError,
    InvalidResponseError,
    NotEnrolledError,
    ServerFailedError,
)

__all__ = ["DeviceAuthClient"]

logger = logging.getLogger(__name__)

IMPATIENT_LOCK_TIMEOUT_S: Final = 2.0
HOLD_OFF_S: Final = 5.0
"""After an early refresh failed, the token at hand is used this long without another try."""

_MAY_WAIT: Final = (ConnectionFailedError, ServerFailedError, InvalidResponseError, LockBusyError)
"""What says nothing against a token that has not expired."""


class DeviceAuthClient:
    """Enrols a device with a bootstrap token, and then always has an access token for it.

    The refresh token is kept in a token store, the access token only in memory. Threads and processes that
    share a store may refresh at the same time: one does, the others wait for it or use what they have.

    Every coroutine has a twin whose name ends in ``_sync``, which also works inside a running event loop and
    blocks it for the length of a request.

    Args:
        base_url: Address of the control plane, without ``/api/v1``.
        org_id: The organization.
        device_identifier: A name for this device, unique within the organization.
        token_storage: ``keyring``, ``memory``, ``file`` or ``auto``, or a store of your own; from
            ``EDGEML_TOKEN_STORAGE`` if left out, and ``auto`` if that is not set: the system keyring, or
            memory where there is none.
        keyring_service: The service under which the keyring keeps the entry.
        keyring_username: The user under which a store keeps it, ``{org_id}:{device_identifier}`` if left out.
        timeout_seconds: Longest silence of the control plane, in seconds.
        max_attempts: How often a request is tried.
        lock_dir: Where lock files lie; the user's state folder if left out.
        clock: Tells the time.

    Raises:
        ConfigurationError: An argument, or ``EDGEML_TOKEN_STORAGE``, cannot work.
    """

    def __init__(
        self,
        *,
        base_url: str,
        org_id: str,
        device_identifier: str,
        token_storage: TokenStorage | TokenStore | str | None = None,
        keyring_service: str = "edgeml",
        keyring_username: str | None = None,
        timeout_seconds: float = 15.0,
        max_attempts: int = 4,
        lock_dir: Path | None = None,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    ) -> None:
        self.base_url = check_address(base_url, name="base_url").removesuffix(API_PATH)
        self.org_id = check_name(org_id, name="org_id")
        self.device_identifier = check_name(device_identifier, name="device_identifier")
        if token_storage is None or isinstance(token_storage, str):
            token_storage = open_token_store(resolve_token_storage(token_storage), service=keyring_service)
        user = keyring_username or f"{org_id}:{device_identifier}"
        self._shelf = TokenShelf(
            token_storage,
            user=user,
            lock_name=f"{keyring_service}/{user}",
            lock_dir=lock_dir,
            base_url=self.base_url,
            org_id=org_id,
            device_identifier=device_identifier,
        )
        self._clock = clock
        self._calls = TokenCalls(
            base_url=self.base_url,
            org_id=org_id,
            device_identifier=device_identifier,
            timeout_s=timeout_seconds,
            max_attempts=max_attempts,
            clock=clock,
        )
        self._lock = threading.Lock()
        self._held: HeldToken | None = None
        self._no_try_before_s = float("-inf")

    @override
    def __repr__(self) -> str:
        return (
            f"DeviceAuthClient(base_url={self.base_url!r}, org_id={self.org_id!r}, "
            f"device_identifier={self.device_identifier!r}, tokens in {self._shelf.place})"
        )

    async def bootstrap(
        self,
        *,
        bootstrap_bearer_token: str | SecretStr,
        scopes: Sequence[str] | None = None,
        access_ttl_seconds: int | None = None,
        device_id: str | None = None,
    ) -> DeviceTokenState:
        """Do as :meth:`bootstrap_sync` does, without blocking the event loop."""
        return await asyncio.to_thread(
            self.bootstrap_sync,
            bootstrap_bearer_token=bootstrap_bearer_token,
            scopes=scopes,
            access_ttl_seconds=access_ttl_seconds,
            device_id=device_id,
        )

    async def refresh(self) -> DeviceTokenState:
        """Do as :meth:`refresh_sync` does, without blocking the event loop."""
        return await asyncio.to_thread(self.refresh_sync)

    async def revoke(self, reason: str = "sdk_revoke") -> None:
        """Do as :meth:`revoke_sync` does, without blocking the event loop."""
        await asyncio.to_thread(self.revoke_sync, reason)

    async def get_access_token(self, refresh_if_expiring_within_seconds: int = 30) -> str:
        """Do as :meth:`get_access_token_sync` does, without blocking the event loop."""
        held, freshness = self._look(refresh_if_expiring_within_seconds)
        if held is not None and freshness is Freshness.FRESH:
            return held.state.access_token.get_secret_value()
        return await asyncio.to_thread(self.get_access_token_sync, refresh_if_expiring_within_seconds)

    def bootstrap_sync(
        self,
        *,
        bootstrap_bearer_token: str | SecretStr,
        scopes: Sequence[str] | None = None,
        access_ttl_seconds: int | None = None,
        device_id: str | None = None,
    ) -> DeviceTokenState:
        """Enrol this device: exchange a bootstrap token for device tokens, and keep them.

        Args:
            bootstrap_bearer_token: The token an operator issued for this device.
            scopes: What the device's token shall allow, ``["devices:write"]`` if left out.
            access_ttl_seconds: Lifetime of access tokens, at most 3600; the server's choice if left out.
            device_id: The id of a device that is registered already.

        Raises:
            AuthError: The bootstrap token is wrong, expired or used up.
            RequestRefusedError: The control plane refused for another reason.
            ConnectionFailedError: No answer came.
            TokenStoreError: The tokens cannot be kept.
        """
        token = bootstrap_bearer_token
        if isinstance(token, SecretStr):
            token = token.get_secret_value()
        with self._lock, self._shelf.locked():
            return self._keep(
                self._calls.bootstrap(
                    token,
                    scopes=tuple(scopes or ("devices:write",)),
                    access_ttl_s=access_ttl_seconds,
                    device_id=device_id,
                )
            )

    def refresh_sync(self) -> DeviceTokenState:
        """Exchange the refresh token for a new pair, and keep it.

        Raises:
            NotEnrolledError: There is no refresh token, or the control plane no longer accepts it.
            ConnectionFailedError: No answer came; the tokens are kept.
            RequestRefusedError: The control plane refused for another reason.
            TokenStoreError: The tokens cannot be read or kept.
        """
        with self._lock:
            return self._refresh()

    def revoke_sync(self, reason: str = "sdk_revoke") -> None:
        """Make the control plane forget this device's tokens, if there are any, then forget them here.

        Args:
            reason: Goes to the control plane's log.

        Raises:
            ConnectionFailedError: No answer came; the tokens are kept, so that this can be tried again.
            RequestRefusedError: The control plane refused.
            TokenStoreError: The tokens cannot be read or removed.
        """
        with self._lock, self._shelf.locked():
            stored = self._shelf.find()
            if stored is not None:
                self._calls.revoke(stored, reason=reason)
                self._forget()

    def clear_token_state(self) -> None:
        """Forget this device's tokens here; the control plane still accepts them until they expire.

        Raises:
            TokenStoreError: The store cannot be written.
        """
        with self._lock, self._shelf.locked():
            self._forget()

    def get_access_token_sync(self, refresh_if_expiring_within_seconds: int = 30) -> str:
        """Return an access token that has not expired, refreshed if little of it is left.

        While a token still works, a refresh that fails for lack of network does no harm: the token is used
        until its hard expiry.

        Args:
            refresh_if_expiring_within_seconds: From when on a refresh is tried.

        Raises:
            NotEnrolledError: The device never enrolled, or the control plane no longer accepts its tokens.
            ConnectionFailedError: The token has expired, and no new one could be got.
            RequestRefusedError: The control plane refused for another reason.
            TokenStoreError: The tokens cannot be read or kept.
        """
        within_s = refresh_if_expiring_within_seconds
        held, freshness = self._look(within_s)
        if held is None or freshness is Freshness.EXPIRED:
            with self._lock:
                held, freshness = self._look(within_s)  # another thread may have been here first
                state = self._refresh() if held is None or freshness is not Freshness.FRESH else held.state
        elif freshness is Freshness.AGING:
            state = self._refreshed_if_possible(held.state, within_s)
        else:
            state = held.state
        return state.access_token.get_secret_value()

    def report_refused_token(self, access_token: str) -> None:
        """Never return this access token again: whoever sent it found it refused before its time."""
        with self._lock:
            held = self._held
            if held is not None and held.state.access_token.get_secret_value() == access_token:
                self._held = None

    def _look(self, refresh_within_s: float) -> tuple[HeldToken | None, Freshness]:
        held = self._held
        if held is None:
            return None, Freshness.EXPIRED
        left_s = remaining_s(held.lease, now=self._clock.now(), monotonic_s=self._clock.monotonic_s())
        return held, judge(left_s, refresh_within_s=refresh_within_s)

    def _refreshed_if_possible(self, state: DeviceTokenState, refresh_within_s: float) -> DeviceTokenState:
        """Return the next tokens, or these if somebody else is at it or the network is down."""
        if self._clock.monotonic_s() < self._no_try_before_s or not self._lock.acquire(blocking=False):
            return state
        try:
            held, freshness = self._look(refresh_within_s)
            if held is not None and freshness is Freshness.FRESH:
                return held.state
            return self._refresh(max_attempts=2, lock_timeout_s=IMPATIENT_LOCK_TIMEOUT_S)
        except _MAY_WAIT as exc:
            self._no_try_before_s = self._clock.monotonic_s() + HOLD_OFF_S
            logger.warning("the access token is used until it expires, because it was not refreshed: %s", exc)
            return state
        finally:
            self._lock.release()

    def _refresh(
        self, *, max_attempts: int | None = None, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> DeviceTokenState:
        """Exchange what the store holds now: another process may have been here since. Needs the lock."""
        with self._shelf.locked(timeout_s=lock_timeout_s):
            stored = self._shelf.get()
            try:
                return self._keep(self._calls.refresh(stored, max_attempts=max_attempts))
            except NotEnrolledError:
                self._forget()  # under the lock, so it is still the very token that was refused
                raise

    def _keep(self, held: HeldToken) -> DeviceTokenState:
        self._held = held
        self._shelf.keep(held.state.refresh_token)
        return held.state

    def _forget(self) -> None:
        self._held = None
        self._shelf.remove()
