"""How a domain presents itself to the application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fastapi import APIRouter

from edgeml_client.schemas import Capability

if TYPE_CHECKING:
    from edgeml_server.plane import ControlPlane
    from edgeml_server.registry.records import VersionUse

__all__ = ["Domain", "Keeper"]


class Keeper(Protocol):
    """A background worker: it starts with the application and is closed with it."""

    def start(self) -> None:
        """Begin to work, in a thread of its own."""
        ...

    def close(self) -> None:
        """Stop, and return once the thread has ended."""
        ...


@dataclass(frozen=True)
class Domain:
    """One folder of the control plane.

    Attributes:
        routers: Mounted under ``/api/v1``.
        capabilities: Announced by ``GET /health``.
        keepers: Each makes one background worker.
        version_uses: Asked before a version or a model is deleted.
    """

    routers: tuple[APIRouter, ...] = ()
    capabilities: tuple[Capability, ...] = ()
    keepers: tuple[Callable[[ControlPlane], Keeper], ...] = ()
    version_uses: tuple[VersionUse, ...] = ()
