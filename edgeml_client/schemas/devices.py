"""Devices on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, JsonValue

from edgeml_client.schemas._record import Record, WireBody

__all__ = ["Device", "DeviceRegistration"]


class DeviceRegistration(WireBody):
    """``POST /devices/register``."""

    device_identifier: str
    org_id: str
    platform: str = "python"
    os_version: str = ""
    sdk_version: str = ""
    app_version: str = ""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    capabilities: dict[str, JsonValue] = Field(default_factory=dict)
    feature_schema: tuple[str, ...] | None = None


class Device(Record):
    """A registered device."""

    id: str
    device_identifier: str | None = None
    org_id: str | None = None
    platform: str | None = None
    registered_at: datetime | None = None
    last_seen_at: datetime | None = None
