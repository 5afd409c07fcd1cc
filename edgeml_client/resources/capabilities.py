"""What a control plane can do beyond the calls that every one understands."""

from __future__ import annotations

import logging
import threading

from edgeml_client._transport.http import HttpTransport
from edgeml_client.errors import InvalidResponseError, RequestRefusedError, ServerFailedError
from edgeml_client.schemas import Capability, Record

__all__ = ["Capabilities", "Health"]

_LOG = logging.getLogger(__name__)


class Health(Record):
    """``GET /health``."""

    status: str | None = None
    version: str | None = None
    capabilities: tuple[str, ...] = ()


class Capabilities:
    """The capabilities of one control plane, asked for once; usable from several threads."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport
        self._lock = threading.Lock()
        self._known: frozenset[str] | None = None

    def __contains__(self, name: Capability) -> bool:
        with self._lock:
            if self._known is None:
                self._known = self._ask()
            return name in self._known

    def _ask(self) -> frozenset[str]:
        """Return what ``GET /health`` announces; a server without that call has no capabilities."""
        try:
            return frozenset(self._transport.call("GET", "/health", Health).capabilities)
        except ServerFailedError:
            raise
        except (RequestRefusedError, InvalidResponseError) as exc:
            _LOG.debug("the control plane announces no capabilities: %s", exc)
            return frozenset()
