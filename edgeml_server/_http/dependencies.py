"""What an endpoint may ask for in its signature.

``plane: Plane`` is the control plane, ``caller: Caller`` whoever holds the token; ``DeviceCaller``,
``ModelOperator``, ``RoundOperator`` and ``TokenOperator`` are callers with the scope named. Calls that
take long ask again who is calling with ``still: StillTheCaller``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import Depends, Request

from edgeml_server.auth.identify import identify, parse_bearer
from edgeml_server.auth.principal import Principal
from edgeml_server.auth.rules import check_grant
from edgeml_server.plane import ControlPlane

__all__ = [
    "Caller",
    "DeviceCaller",
    "ModelOperator",
    "Plane",
    "RoundOperator",
    "StillTheCaller",
    "TokenOperator",
    "current_principal",
]


def current_plane(request: Request) -> ControlPlane:
    """Return the control plane this request came to."""
    plane = request.app.state.plane
    if not isinstance(plane, ControlPlane):  # pragma: no cover - create_app sets it
        raise TypeError("the application has no control plane; make it with create_app")
    return plane


Plane = Annotated[ControlPlane, Depends(current_plane)]


def current_principal(request: Request, plane: Plane) -> Principal:
    """Return who is calling.

    Raises:
        UnauthenticatedError: There is no good token.
    """
    return identify(plane, parse_bearer(request.headers.get("authorization")))


Caller = Annotated[Principal, Depends(current_principal)]


def _asking_again(request: Request, plane: Plane) -> Callable[[], Principal]:
    return partial(current_principal, request, plane)


StillTheCaller = Annotated[Callable[[], Principal], Depends(_asking_again)]


def _holding(scope: str) -> Callable[[Principal], Principal]:
    def with_scope(principal: Caller) -> Principal:
        check_grant(principal.scopes, scope)
        return principal

    return with_scope


DeviceCaller = Annotated[Principal, Depends(_holding("devices:write"))]
ModelOperator = Annotated[Principal, Depends(_holding("models:write"))]
RoundOperator = Annotated[Principal, Depends(_holding("rounds:write"))]
TokenOperator = Annotated[Principal, Depends(_holding("tokens:write"))]
