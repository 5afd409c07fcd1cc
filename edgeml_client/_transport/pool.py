"""The connections of one transport."""

from __future__ import annotations

import os
import platform
import ssl
import threading
import weakref
from functools import cache
from typing import Final

import httpx

from edgeml_client._version import __version__

__all__ = ["ConnectionPool"]

_USER_AGENT: Final = f"edgeml-lightning/{__version__} python/{platform.python_version()}"
# No proxy reaches this machine's own loopback addresses.
_NEVER_PROXIED: Final = ("all://127.0.0.1", "all://localhost", "all://[::1]")


@cache
def _tls() -> ssl.SSLContext:
    """Return the trusted certificates, read once in a process: that takes longer than a round trip."""
    return httpx.create_ssl_context()


class ConnectionPool:
    """Opens connections when they are needed, again after a close, and anew in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._finalizer: weakref.finalize[[], ConnectionPool] | None = None
        self._pid = 0

    def client(self) -> httpx.Client:
        """Return the client that holds the connections; it may be used from several threads."""
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._client = httpx.Client(
                    headers={"User-Agent": _USER_AGENT},
                    mounts=dict.fromkeys(_NEVER_PROXIED),
                    verify=_tls(),
                )
                self._finalizer = weakref.finalize(self, self._client.close)
            return self._client

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            finalizer, self._client, self._finalizer = self._finalizer, None, None
        if finalizer is not None and self._pid == os.getpid():
            finalizer()
