"""``GET /health`` and ``GET /ready``, without a token."""

from __future__ import annotations

import logging

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from edgeml_client import __version__
from edgeml_server._http.dependencies import Plane
from edgeml_server.errors import UnavailableError

__all__ = ["Health", "Readiness", "health_router"]

_LOG = logging.getLogger(__name__)


class Health(BaseModel):
    """The process is alive."""

    status: str = "ok"
    version: str = __version__
    capabilities: tuple[str, ...]


class Readiness(BaseModel):
    """What the control plane needs is reachable."""

    status: str = "ready"


def health_router(capabilities: tuple[str, ...]) -> APIRouter:
    """Return the router that announces ``capabilities``."""
    router = APIRouter(tags=["health"])
    answer = Health(capabilities=capabilities)

    @router.get("/health")
    async def health() -> Health:
        """Say that the process is alive, and what it understands beyond the legacy calls."""
        return answer

    @router.get("/ready")
    def ready(plane: Plane) -> Readiness:
        """Say whether database and blob store are reachable."""
        try:
            plane.database.ping()
            plane.blobs.ping()
        except (SQLAlchemyError, OSError) as exc:
            _LOG.warning("not ready: %s", exc)
            raise UnavailableError("the database or the blob store is not reachable; see the log") from exc
        return Readiness()

    return router
