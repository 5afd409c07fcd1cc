"""Where a device keeps its refresh token."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from functools import cache
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import platformdirs
from typing_extensions import override

from edgeml_client.auth.keyring_calls import keyring_call
from edgeml_client.config import TokenStorage
from edgeml_client.durable import write_durably
from edgeml_client.errors import TokenStoreError

__all__ = [
    "FallbackTokenStore",
    "FileTokenStore",
    "KeyringTokenStore",
    "MemoryTokenStore",
    "TokenStore",
    "open_token_store",
]

logger = logging.getLogger(__name__)

LONGEST_FILE_NAME: Final = 120


class TokenStore(Protocol):
    """Keeps one secret text for each user name; every method raises ``TokenStoreError`` if it cannot."""

    @property
    def place(self) -> str:
        """Name the store for a message to people."""
        ...

    @property
    def is_shared(self) -> bool:
        """Tell whether other processes see the same entries."""
        ...

    def find(self, user: str) -> str | None:
        """Return the text kept for ``user``, or ``None``."""
        ...

    def save(self, user: str, text: str) -> None:
        """Keep ``text`` for ``user``, in place of what was kept before."""
        ...

    def remove(self, user: str) -> None:
        """Keep nothing for ``user``."""
        ...


class MemoryTokenStore(TokenStore):
    """Lasts as long as this object."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    @property
    @override
    def place(self) -> str:
        return "the memory of this process"

    @property
    @override
    def is_shared(self) -> bool:
        return False

    @override
    def find(self, user: str) -> str | None:
        return self._texts.get(user)

    @override
    def save(self, user: str, text: str) -> None:
        self._texts[user] = text

    @override
    def remove(self, user: str) -> None:
        self._texts.pop(user, None)


class KeyringTokenStore(TokenStore):
    """Uses the keyring of the operating system.

    Args:
        service: The service under which entries are kept.
        timeout_s: Longest wait for one answer; a locked keyring blocks for ever.
    """

    def __init__(self, service: str = "edgeml", *, timeout_s: float = 5.0) -> None:
        self._service = service
        self._timeout_s = timeout_s

    @property
    @override
    def place(self) -> str:
        return f"the system keyring (service {self._service!r})"

    @property
    @override
    def is_shared(self) -> bool:
        return True

    @override
    def find(self, user: str) -> str | None:
        return keyring_call("get_password", self._service, user, timeout_s=self._timeout_s)

    @override
    def save(self, user: str, text: str) -> None:
        keyring_call("set_password", self._service, user, text, timeout_s=self._timeout_s)

    @override
    def remove(self, user: str) -> None:
        if self.find(user) is not None:
            keyring_call("delete_password", self._service, user, timeout_s=self._timeout_s)


class FileTokenStore(TokenStore):
    """Uses one file for each user name, readable by the owner alone, replaced as a whole.

    Args:
        directory: Where the files lie; the user's state folder if left out.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or platformdirs.user_state_path("edgeml") / "tokens"

    @property
    @override
    def place(self) -> str:
        return f"the folder {self._directory}"

    @property
    @override
    def is_shared(self) -> bool:
        return True

    @override
    def find(self, user: str) -> str | None:
        path = self._path(user)
        try:
            mode = path.stat().st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise TokenStoreError(f"other users can read {path}: chmod 600 it, or better enrol again")
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as exc:
            raise TokenStoreError(f"cannot read {path}: {exc}") from exc

    @override
    def save(self, user: str, text: str) -> None:
        path = self._path(user)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(path, text.encode(), mode=0o600)
        except OSError as exc:
            raise TokenStoreError(f"cannot write {path}: {exc}") from exc

    @override
    def remove(self, user: str) -> None:
        try:
            self._path(user).unlink(missing_ok=True)
        except OSError as exc:
            raise TokenStoreError(f"cannot remove {self._path(user)}: {exc}") from exc

    def _path(self, user: str) -> Path:
        name = quote(user, safe="")
        if len(name) > LONGEST_FILE_NAME:
            name = f"{name[:LONGEST_FILE_NAME]}-{hashlib.sha256(user.encode()).hexdigest()[:16]}"
        return self._directory / f"{name}.json"


class FallbackTokenStore(TokenStore):
    """Uses the keyring, or the memory of this process where the keyring fails, with one warning.

    A keyring that holds the entry, and fails later, is no reason to fall back: the error is raised, since the
    device is still enrolled.

    Args:
        keyring: Tried first.
    """

    def __init__(self, keyring: TokenStore) -> None:
        self._store = keyring
        self._has_entry = False

    @property
    @override
    def place(self) -> str:
        return self._store.place

    @property
    @override
    def is_shared(self) -> bool:
        return self._store.is_shared

    @override
    def find(self, user: str) -> str | None:
        try:
            found = self._store.find(user)
        except TokenStoreError as exc:
            self._fall_back(exc)
            return None
        self._has_entry = found is not None
        return found

    @override
    def save(self, user: str, text: str) -> None:
        try:
            self._store.save(user, text)
        except TokenStoreError as exc:
            self._fall_back(exc)
            self._store.save(user, text)
        self._has_entry = True

    @override
    def remove(self, user: str) -> None:
        try:
            self._store.remove(user)
        except TokenStoreError as exc:
            self._fall_back(exc)
        self._has_entry = False

    def _fall_back(self, reason: TokenStoreError) -> None:
        if self._has_entry:
            raise reason
        self._store = MemoryTokenStore()
        _warn_once(str(reason))


@cache
def _warn_once(reason: str) -> None:
    """Say once in a process, however many devices it runs, that tokens will not survive it."""
    logger.warning(
        "the device's tokens are kept in memory only, so it must enrol again after a restart: %s",
        reason,
    )


def open_token_store(storage: TokenStorage, *, service: str) -> TokenStore:
    """Return the store of that kind; nothing is read or written yet."""
    match storage:
        case TokenStorage.MEMORY:
            return MemoryTokenStore()
        case TokenStorage.FILE:
            return FileTokenStore()
        case TokenStorage.KEYRING:
            return KeyringTokenStore(service)
        case TokenStorage.AUTO:
            return FallbackTokenStore(KeyringTokenStore(service))
