"""The entry of one device in a token store."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from edgeml_client.auth.locking import across_processes
from edgeml_client.auth.state import StoredToken
from edgeml_client.auth.stores import TokenStore
from edgeml_client.errors import NotEnrolledError

__all__ = ["LOCK_TIMEOUT_S", "TokenShelf"]

LOCK_TIMEOUT_S: Final = 60.0

_MEMORY_HINT: Final = (
    "; memory ends with its process: to enrol in one process and train in another, "
    "set EDGEML_TOKEN_STORAGE to 'file' for both"
)


class TokenShelf:
    """Finds, keeps and removes the refresh token of one device at one control plane.

    Args:
        store: Where the entry is.
        user: Its name.
        lock_name: The name of the lock that processes share.
        lock_dir: Where lock files lie; the user's state folder if left out.
        base_url: The control plane; tokens of another are not used.
        org_id: The organization.
        device_identifier: The device.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        user: str,
        lock_name: str,
        lock_dir: Path | None,
        base_url: str,
        org_id: str,
        device_identifier: str,
    ) -> None:
        self._store = store
        self._user = user
        self._lock_name = lock_name
        self._lock_dir = lock_dir
        self._base_url = base_url
        self._org_id = org_id
        self._device_identifier = device_identifier

    @property
    def place(self) -> str:
        """Where the entry is, for a message to people."""
        return self._store.place

    def locked(self, *, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[None]:
        """Keep other processes that see the entry from changing it.

        Raises:
            LockBusyError: Another process did not let go of it for ``timeout_s`` seconds.
        """
        if not self._store.is_shared:
            return nullcontext()
        return across_processes(self._lock_name, directory=self._lock_dir, timeout_s=timeout_s)

    def find(self) -> StoredToken | None:
        """Return the entry, or ``None``.

        Raises:
            NotEnrolledError: The entry belongs to another control plane, and must not be sent to this one.
            TokenStoreError: The store cannot be read, or the entry is something else.
        """
        text = self._store.find(self._user)
        if text is None:
            return None
        stored = StoredToken.from_text(text, place=self._store.place)
        if stored.base_url not in {None, self._base_url}:
            raise NotEnrolledError(
                f"{self._user} enrolled at {stored.base_url}, and its token is not sent to {self._base_url}: "
                "correct base_url, or call DeviceAuthClient.bootstrap to enrol there instead"
            )
        return stored

    def get(self) -> StoredToken:
        """Return the entry.

        Raises:
            NotEnrolledError: There is none for this control plane.
            TokenStoreError: The store cannot be read, or the entry is something else.
        """
        stored = self.find()
        if stored is None:
            hint = "" if self._store.is_shared else _MEMORY_HINT
            raise NotEnrolledError(
                f"there is no token for {self._user} in {self._store.place}: "
                f"call DeviceAuthClient.bootstrap with a bootstrap token{hint}"
            )
        return stored

    def keep(self, refresh_token: SecretStr) -> None:
        """Put a refresh token in place of the one before."""
        stored = StoredToken(
            refresh_token=refresh_token,
            org_id=self._org_id,
            device_identifier=self._device_identifier,
            base_url=self._base_url,
        )
        self._store.save(self._user, stored.to_text())

    def remove(self) -> None:
        """Keep nothing."""
        self._store.remove(self._user)
