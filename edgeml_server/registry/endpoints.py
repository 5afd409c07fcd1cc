"""Models on the wire; versions and their files have routers of their own."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from pydantic import JsonValue

from edgeml_client.schemas import Capability, Model, ModelPage
from edgeml_server._http.dependencies import Caller, ModelOperator, Plane
from edgeml_server._http.idempotency import IdempotentCall, once
from edgeml_server.auth.rules import check_org
from edgeml_server.domain import Domain
from edgeml_server.errors import NotOfferedError
from edgeml_server.registry import file_endpoints, version_endpoints
from edgeml_server.registry.dependencies import VersionUses
from edgeml_server.registry.models import change_model, create_model, delete_model, get_model
from edgeml_server.registry.records import ModelOrder
from edgeml_server.registry.repository import ModelRepository

__all__ = ["DOMAIN"]

router = APIRouter(prefix="/models", tags=["models"])

_NOT_OFFERED: Final = (
    "this control plane does not optimize models for device types; "
    "convert the model yourself, and upload the file"
)


@router.get("")
def list_models(  # noqa: PLR0917 - FastAPI passes them by name
    plane: Plane,
    caller: Caller,
    org_id: str | None = None,
    framework: str | None = None,
    use_case: str | None = None,
    name: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> ModelPage:
    """List the organization's models, by name."""
    check_org(caller.org_id, org_id)
    with plane.database.snapshot() as session:
        models, total = ModelRepository(session, caller.org_id).page(
            framework=framework, use_case=use_case, name=name, limit=limit, offset=offset
        )
    return ModelPage(models=models, total=total)


@router.post("", status_code=201)
def create(body: ModelOrder, plane: Plane, operator: ModelOperator, call: IdempotentCall) -> Model:
    """Create a model."""
    now = plane.clock.now()
    with plane.database.unit_of_work() as work:
        make = partial(create_model, work, operator.org_id, body, now=now)
        return once(work, operator.org_id, call, Model, make, now=now)


@router.get("/{model_id}")
def read(model_id: str, plane: Plane, caller: Caller) -> Model:
    """Return a model."""
    with plane.database.snapshot() as session:
        return get_model(session, caller.org_id, model_id)


@router.patch("/{model_id}")
def change(model_id: str, body: dict[str, JsonValue], plane: Plane, operator: ModelOperator) -> Model:
    """Set fields of a model."""
    with plane.database.unit_of_work() as work:
        return change_model(work, operator.org_id, model_id, body, now=plane.clock.now())


@router.delete("/{model_id}", status_code=204)
def delete(model_id: str, plane: Plane, operator: ModelOperator, uses: VersionUses) -> Response:
    """Forget a model and its versions."""
    with plane.database.unit_of_work() as work:
        delete_model(work, operator.org_id, model_id, uses=uses)
    return Response(status_code=204)


@router.post("/{model_id}/optimize", status_code=501)
@router.get("/{model_id}/optimized-config/{device_type}", status_code=501)
@router.get("/{model_id}/compatibility", status_code=501)
def not_offered(model_id: str, plane: Plane, caller: Caller) -> None:
    """Say that this part of the contract is not answered here."""
    with plane.database.snapshot() as session:
        get_model(session, caller.org_id, model_id)
    raise NotOfferedError(_NOT_OFFERED)


DOMAIN: Final = Domain(
    routers=(router, version_endpoints.router, file_endpoints.router),
    capabilities=(Capability.MODELS_SAFETENSORS,),
)
