"""What the libraries below log about our own requests: readable, and without secrets."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

import httpx
from typing_extensions import override

from edgeml_client._transport.answers import shown_url

__all__ = ["discreetly"]

_is_ours: ContextVar[bool] = ContextVar("_is_ours", default=False)


class _WithoutSecrets(logging.Filter):
    """httpx logs whole addresses, signatures included."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if _is_ours.get() and isinstance(record.args, tuple):
            record.args = tuple(
                shown_url(value) if isinstance(value, httpx.URL) else value for value in record.args
            )
        return True


class _Readable(logging.Filter):
    """stamina says what happened in extra fields only, which plain log formats leave out."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if _is_ours.get() and "stamina.caused_by" in record.__dict__:
            record.msg = "the request failed (%s), trying again in %s s"
            record.args = (record.__dict__["stamina.caused_by"], record.__dict__["stamina.wait_for"])
        return True


logging.getLogger("httpx").addFilter(_WithoutSecrets())
logging.getLogger("stamina").addFilter(_Readable())


@contextmanager
def discreetly() -> Generator[None]:
    """Let the filters above work on what is logged within."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)
