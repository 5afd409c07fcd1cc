"""The connections of one transport."""

from __future__ import annotations

import logging
import os
import platform
import ssl
import threading
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Final

import httpx
from typing_extensions import override

from edgeml_client._transport.answers import shown_url
from edgeml_client._version import __version__

__all__ = ["ConnectionPool", "discreetly"]

_USER_AGENT: Final = f"edgeml-lightning/{__version__} python/{platform.python_version()}"
# No proxy reaches this machine's own loopback addresses.
_NEVER_PROXIED: Final = ("all://127.0.0.1", "all://localhost", "all://[::1]")


@cache
def _tls() -> ssl.SSLContext:
    """Return the trusted certificates, read once in a process: that takes longer than a round trip."""
    return httpx.create_ssl_context()


_is_ours: ContextVar[bool] = ContextVar("_is_ours", default=False)


class _WithoutSecrets(logging.Filter):
    """httpx logs whole addresses, signatures included; of our own requests, only what may be shown."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if _is_ours.get() and isinstance(record.args, tuple):
            record.args = tuple(
                shown_url(value) if isinstance(value, httpx.URL) else value for value in record.args
            )
        return True


logging.getLogger("httpx").addFilter(_WithoutSecrets())


@contextmanager
def discreetly() -> Generator[None]:
    """Keep secrets out of what httpx logs about the requests made within."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)


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
