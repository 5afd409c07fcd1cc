"""What can honestly be said about privacy: no mechanism has run, so no budget was spent or is left."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from edgeml_server._http.dependencies import Caller, Plane
from edgeml_server.domain import Domain
from edgeml_server.federations.repository import FederationRepository

__all__ = ["DOMAIN", "PrivacyReport"]

router = APIRouter(prefix="/federations", tags=["privacy"])

_WHAT_IT_MEANS: Final = (
    "no differential privacy mechanism has run for this federation: there is no bound on what its models "
    "tell about the data, and noise or clipping that devices add by themselves is not accounted for"
)


class PrivacyReport(BaseModel):
    """``GET /federations/{id}/privacy``.

    Attributes:
        mechanism: What protects the data of a federation's devices; ``none`` so far.
        epsilon_spent: ``None``, which is not zero: without a mechanism there is no epsilon.
        dp_delta: The delta of differential privacy that the epsilon goes with.
    """

    federation_id: str
    mechanism: Literal["none"] = "none"
    epsilon_spent: float | None = None
    epsilon_budget: float | None = None
    remaining_budget: float | None = None
    dp_delta: float | None = None
    detail: str = _WHAT_IT_MEANS


@router.get("/{federation_id}/privacy")
def get_privacy(federation_id: str, plane: Plane, caller: Caller) -> PrivacyReport:
    """Say which privacy mechanism has run, and what was spent."""
    with plane.database.snapshot() as session:
        FederationRepository(session, caller.org_id).require(federation_id)
    return PrivacyReport(federation_id=federation_id)


DOMAIN: Final = Domain(routers=(router,))
