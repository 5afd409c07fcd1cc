"""Personal models on the wire."""

from __future__ import annotations

from typing import Final, Literal

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from edgeml_client.schemas import PersonalModel, PersonalUpload
from edgeml_server._http.dependencies import DeviceCaller, Plane
from edgeml_server.domain import Domain
from edgeml_server.personalization.service import hand_back, keep
from edgeml_server.rounds.receiving import parse_json

__all__ = ["DOMAIN"]

router = APIRouter(prefix="/training/personalized", tags=["personalization"])


@router.get("/{device_id}")
def get_personal_model(
    device_id: str,
    plane: Plane,
    caller: DeviceCaller,
    format: Literal["pytorch", "safetensors"] = "pytorch",  # noqa: A002 - its name on the wire
) -> PersonalModel:
    """Return the caller's personal model, base64 in JSON; older clients expect the torch-saved form."""
    return hand_back(plane, caller, device_id, written=format)


@router.post("/{device_id}")
async def put_personal_model(
    device_id: str, request: Request, plane: Plane, caller: DeviceCaller
) -> PersonalModel:
    """Keep the caller's personal model, in place of the one before."""
    # The body may be large: it is read only now, after the caller was identified.
    body = await request.body()

    def take_in() -> PersonalModel:
        return keep(plane, caller, device_id, parse_json(PersonalUpload, body))

    return await run_in_threadpool(take_in)


DOMAIN: Final = Domain(routers=(router,))
