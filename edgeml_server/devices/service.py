"""Registering devices, and saying which device a caller may act for."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgeml_client.schemas import Device, DeviceRegistration
from edgeml_server.auth.rules import check_org
from edgeml_server.devices.repository import DeviceRepository
from edgeml_server.devices.rules import check_facts
from edgeml_server.errors import AbsentError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeml_server.auth.principal import Principal
    from edgeml_server.db import UnitOfWork

__all__ = ["acting_device", "heartbeat", "register"]


def register(
    work: UnitOfWork, principal: Principal, registration: DeviceRegistration, *, now: datetime
) -> tuple[Device, bool]:
    """Return the caller's device, made or brought up to date, and whether it is new.

    A device token stands for one device, whatever identifier the body reports: clients that draw a random
    one at each start stay one device. The reported one is kept as ``metadata.reported_identifier``. An
    operator token speaks for the identifier in the body.

    Raises:
        AbsentError: The body names another organization than the token's.
        InvalidContentError: It says too much about the device.
    """
    check_facts(registration)
    check_org(principal.org_id, registration.org_id)
    identifier = principal.device_identifier or registration.device_identifier
    devices = DeviceRepository(work.session, principal.org_id)
    facts = _facts(registration, identifier)
    is_new = devices.add(identifier, facts, now=now)
    if not is_new:
        devices.change(identifier, facts, now=now)
    device = devices.find_by_identifier(identifier)
    if device is None:
        raise AbsentError(f"the device {identifier!r} was removed while it registered; register again")
    return device, is_new


def heartbeat(work: UnitOfWork, principal: Principal, device_id: str, *, now: datetime) -> Device:
    """Note that the device is there; return it.

    Raises:
        AbsentError: It is not the caller's.
    """
    device = acting_device(work.session, principal, device_id)
    devices = DeviceRepository(work.session, principal.org_id)
    devices.touch(device.device_identifier or "", now=now)
    return devices.find(device_id) or device


def acting_device(session: Session, principal: Principal, device_id: str) -> Device:
    """Return the device the caller may act for: a device for itself, an operator for any of the organization.

    Raises:
        AbsentError: There is none such for this caller; whether another organization has it is not told.
    """
    device = DeviceRepository(session, principal.org_id).find(device_id)
    if device is None or principal.device_identifier not in {None, device.device_identifier}:
        raise AbsentError(
            f"there is no device {device_id!r} for this token; register first, then use the id answered"
        )
    return device


def _facts(registration: DeviceRegistration, identifier: str) -> dict[str, Any]:
    details = dict(registration.metadata)
    if registration.device_identifier != identifier:
        details["reported_identifier"] = registration.device_identifier
    features = registration.feature_schema
    return {
        "platform": registration.platform,
        "os_version": registration.os_version,
        "sdk_version": registration.sdk_version,
        "app_version": registration.app_version,
        "details": details,
        "capabilities": dict(registration.capabilities),
        "feature_schema": None if features is None else list(features),
    }
