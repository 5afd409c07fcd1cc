"""Rows of the devices domain."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import JSON, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

__all__ = ["DeviceRow"]


class DeviceRow(Base):
    """A device of an organization; one row for each identifier, which comes from the token."""

    __tablename__ = "devices"
    __table_args__ = (
        UniqueConstraint("org_id", "device_identifier"),
        Index(None, "org_id", "last_seen_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(255))
    device_identifier: Mapped[str] = mapped_column(String(255))
    platform: Mapped[str] = mapped_column(String(255))
    os_version: Mapped[str] = mapped_column(String(255))
    sdk_version: Mapped[str] = mapped_column(String(255))
    app_version: Mapped[str] = mapped_column(String(255))
    # Not called "metadata", which the mapper keeps for itself.
    details: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    capabilities: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    feature_schema: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    registered_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
