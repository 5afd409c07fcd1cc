"""Every statement about devices."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from edgeml_client.schemas import Device
from edgeml_server.db import compare_and_set, new_id
from edgeml_server.devices.tables import DeviceRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sqlalchemy.orm import Session

__all__ = ["DeviceRepository"]


class DeviceRepository:
    """The statements about the devices of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def find(self, device_id: str) -> Device | None:
        """Return the device, if the organization has it."""
        row = self._session.scalar(
            select(DeviceRow)
            .where(DeviceRow.org_id == self._org_id, DeviceRow.id == device_id)
            .execution_options(populate_existing=True)
        )
        return None if row is None else _record(row)

    def find_by_identifier(self, device_identifier: str) -> Device | None:
        """Return the device of that identifier, if the organization has it."""
        row = self._session.scalar(
            select(DeviceRow)
            .where(DeviceRow.org_id == self._org_id, DeviceRow.device_identifier == device_identifier)
            .execution_options(populate_existing=True)
        )
        return None if row is None else _record(row)

    def add(self, device_identifier: str, facts: Mapping[str, Any], *, now: datetime) -> bool:
        """Hold a new device; ``False`` if there is one of that identifier already."""
        row = DeviceRow(
            id=new_id("dev"),
            org_id=self._org_id,
            device_identifier=device_identifier,
            registered_at=now,
            last_seen_at=now,
            **facts,
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return False
        return True

    def change(self, device_identifier: str, facts: Mapping[str, Any], *, now: datetime) -> None:
        """Replace what a device said about itself."""
        self._session.execute(
            update(DeviceRow)
            .where(DeviceRow.org_id == self._org_id, DeviceRow.device_identifier == device_identifier)
            .values(last_seen_at=now, **facts)
            .execution_options(synchronize_session=False)
        )

    def touch(self, device_identifier: str, *, now: datetime) -> bool:
        """Note that the device was seen; time never goes backwards."""
        return compare_and_set(
            self._session,
            DeviceRow,
            DeviceRow.org_id == self._org_id,
            DeviceRow.device_identifier == device_identifier,
            DeviceRow.last_seen_at < now,
            values={"last_seen_at": now},
        )

    def page(self, *, limit: int, offset: int) -> tuple[Device, ...]:
        """Return a page of the devices, by identifier."""
        rows = self._session.scalars(
            select(DeviceRow)
            .where(DeviceRow.org_id == self._org_id)
            .order_by(DeviceRow.device_identifier)
            .limit(limit)
            .offset(offset)
        )
        return tuple(_record(row) for row in rows)

    def count(self) -> int:
        """Return how many devices there are."""
        return (
            self._session.scalar(
                select(func.count()).select_from(DeviceRow).where(DeviceRow.org_id == self._org_id)
            )
            or 0
        )


def _record(row: DeviceRow) -> Device:
    return Device.model_validate(
        {
            "id": row.id,
            "device_identifier": row.device_identifier,
            "org_id": row.org_id,
            "platform": row.platform,
            "registered_at": row.registered_at,
            "last_seen_at": row.last_seen_at,
            "os_version": row.os_version,
            "sdk_version": row.sdk_version,
            "app_version": row.app_version,
            "metadata": row.details,
            "capabilities": row.capabilities,
            "feature_schema": row.feature_schema,
        }
    )
