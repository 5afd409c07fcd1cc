"""Rows of the inference domain."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

__all__ = ["InferenceEventRow"]


class InferenceEventRow(Base):
    """An event as a device reported it; an organization's oldest ones make room for new ones."""

    __tablename__ = "inference_events"
    __table_args__ = (Index(None, "org_id", "number"),)

    number: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    org_id: Mapped[str] = mapped_column(String(255))
    device_identifier: Mapped[str | None] = mapped_column(String(255))
    event: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
