"""Devices on the wire."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from edgeml_client.schemas import Device, DeviceRegistration
from edgeml_server._http.dependencies import Caller, DeviceCaller, Plane, RoundOperator
from edgeml_server.devices.repository import DeviceRepository
from edgeml_server.devices.service import acting_device, heartbeat, register
from edgeml_server.domain import Domain

__all__ = ["DOMAIN", "DevicePage"]

router = APIRouter(prefix="/devices", tags=["devices"])


class DevicePage(BaseModel):
    """``GET /devices``."""

    devices: tuple[Device, ...]
    total: int


@router.post("/register")
def register_device(
    body: DeviceRegistration, response: Response, plane: Plane, caller: DeviceCaller
) -> Device:
    """Register the caller's device, or bring what it says about itself up to date."""
    with plane.database.unit_of_work() as work:
        device, is_new = register(work, caller, body, now=plane.clock.now())
    response.status_code = 201 if is_new else 200
    return device


@router.get("")
def list_devices(
    plane: Plane,
    operator: RoundOperator,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> DevicePage:
    """List the organization's devices, by identifier."""
    with plane.database.snapshot() as session:
        devices = DeviceRepository(session, operator.org_id)
        return DevicePage(devices=devices.page(limit=limit, offset=offset), total=devices.count())


@router.get("/{device_id}")
def get_device(device_id: str, plane: Plane, caller: Caller) -> Device:
    """Return a device: its own for a device, any of the organization for an operator."""
    with plane.database.snapshot() as session:
        return acting_device(session, caller, device_id)


@router.put("/{device_id}/heartbeat")
def beat(device_id: str, plane: Plane, caller: DeviceCaller) -> Device:
    """Note that the device is there; the body may be anything."""
    with plane.database.unit_of_work() as work:
        return heartbeat(work, caller, device_id, now=plane.clock.now())


@router.get("/{device_id}/groups")
def list_groups(device_id: str, plane: Plane, caller: Caller) -> list[str]:
    """Return the device's groups; there are none, until groups can be made."""
    with plane.database.snapshot() as session:
        acting_device(session, caller, device_id)
    return []


DOMAIN: Final = Domain(routers=(router,))
