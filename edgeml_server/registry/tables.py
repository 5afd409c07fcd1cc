"""Rows of the registry domain."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import JSON, BigInteger, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

__all__ = ["ModelRow", "VersionFileRow", "VersionRow"]

_Id = String(64)
_Name = String(255)


class ModelRow(Base):
    """A named model of an organization."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("org_id", "name"),)

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name)
    name: Mapped[str] = mapped_column(_Name)
    description: Mapped[str] = mapped_column(Text)
    framework: Mapped[str] = mapped_column(_Name)
    use_case: Mapped[str] = mapped_column(_Name)
    model_contract: Mapped[dict[str, JsonValue] | None] = mapped_column(JSON(none_as_null=True))
    data_contract: Mapped[dict[str, JsonValue] | None] = mapped_column(JSON(none_as_null=True))
    extra: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class VersionRow(Base):
    """One version of a model; its bytes never change.

    ``publish_number`` counts the model's publications: the highest among the published is the latest version.
    ``layout`` is there for trainable versions, those kept as safetensors.
    """

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("model_id", "version"), UniqueConstraint("model_id", "publish_number"))

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name, index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    version: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    publish_number: Mapped[int | None] = mapped_column(Integer)
    format: Mapped[str] = mapped_column(String(32))
    checksum: Mapped[str] = mapped_column(_Name)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    storage_path: Mapped[str | None] = mapped_column(Text)
    description: Mapped[str] = mapped_column(Text)
    metrics: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    attributes: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    layout: Mapped[list[JsonValue] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class VersionFileRow(Base):
    """A file of a version, by format: the canonical one, and those derived from it or sent with it."""

    __tablename__ = "model_files"

    version_id: Mapped[str] = mapped_column(
        ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True
    )
    format: Mapped[str] = mapped_column(String(32), primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name)
    digest: Mapped[str] = mapped_column(String(80), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
