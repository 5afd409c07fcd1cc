"""Arrays that stay on the device are never part of an update."""

from __future__ import annotations

from collections.abc import Iterable

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.schemas import UpdateHeader

__all__ = ["refuse_private"]


def refuse_private(header: UpdateHeader, names: Iterable[str]) -> None:
    """Return if none of the arrays of an update is one that stays on the device.

    Raises:
        InvalidUpdateError: One is.
    """
    leaking = sorted(set(header.private) & set(names))
    if leaking:
        raise InvalidUpdateError(f"private arrays must stay on the device, but the delta holds {leaking}")
