"""What the registry's endpoints ask for beyond the common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request

if TYPE_CHECKING:
    from edgeml_server.registry.records import VersionUse

__all__ = ["VersionUses", "version_uses"]


def version_uses(request: Request) -> tuple[Callable[..., Any], ...]:
    """Return whom to ask before a version is deleted."""
    uses: tuple[VersionUse, ...] = request.app.state.version_uses
    return uses


VersionUses = Annotated[tuple[Callable[..., Any], ...], Depends(version_uses)]
