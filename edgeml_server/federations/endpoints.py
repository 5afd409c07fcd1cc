"""Federations on the wire."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Response
from pydantic import Field

from edgeml_client.schemas import FederationRecord, Identifier, Invitation, WireBody
from edgeml_server._http.dependencies import Caller, Plane, RoundOperator
from edgeml_server.auth.rules import check_org
from edgeml_server.domain import Domain
from edgeml_server.federations.repository import FederationRepository

__all__ = ["DOMAIN"]

router = APIRouter(prefix="/federations", tags=["federations"])


class NewFederation(WireBody):
    """``POST /federations``."""

    name: Identifier
    org_id: Identifier | None = None


class NewInvitations(WireBody):
    """``POST /federations/{id}/invite``."""

    org_ids: Annotated[tuple[Identifier, ...], Field(max_length=1000)]


@router.get("")
def list_federations(
    plane: Plane, caller: Caller, org_id: str | None = None, name: str | None = None
) -> tuple[FederationRecord, ...]:
    """List the organization's federations, by name."""
    check_org(caller.org_id, org_id)
    with plane.database.snapshot() as session:
        return FederationRepository(session, caller.org_id).page(name=name)


@router.post("", status_code=201)
def create_federation(
    body: NewFederation, response: Response, plane: Plane, operator: RoundOperator
) -> FederationRecord:
    """Make a federation; its name says which one it is, so making it twice answers the first."""
    check_org(operator.org_id, body.org_id)
    with plane.database.unit_of_work() as work:
        federations = FederationRepository(work.session, operator.org_id)
        record, is_new = federations.ensure(body.name, now=plane.clock.now())
    response.status_code = 201 if is_new else 200
    return record


@router.post("/{federation_id}/invite")
def invite(
    federation_id: str, body: NewInvitations, plane: Plane, operator: RoundOperator
) -> tuple[Invitation, ...]:
    """Ask organizations to join."""
    with plane.database.unit_of_work() as work:
        federations = FederationRepository(work.session, operator.org_id)
        federations.require(federation_id)
        for invited in body.org_ids:
            federations.invite(federation_id, invited, now=plane.clock.now())
    return tuple(Invitation(org_id=invited, status="invited") for invited in body.org_ids)


DOMAIN: Final = Domain(routers=(router,))
