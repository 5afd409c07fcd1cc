"""Rows of the personalization domain."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import JSON, BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

__all__ = ["PersonalModelRow"]


class PersonalModelRow(Base):
    """The personal model of a device, a safetensors file in the blob store; at most one each."""

    __tablename__ = "personal_models"

    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(255), index=True)
    digest: Mapped[str] = mapped_column(String(80), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    metrics: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
