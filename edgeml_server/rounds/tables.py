"""Rows of the rounds domain."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

__all__ = ["CohortRow", "RoundRow", "UpdateRow"]

_Id = String(64)
_Name = String(255)
_Digest = String(80)


class RoundRow(Base):
    """One round of a series.

    ``revision`` grows with every change, so that a process notices what another one did.
    ``lease_owner`` and ``lease_expires_at`` say which process aggregates the round, and when another one
    may try; ``num_attempts`` counts the tries.
    """

    __tablename__ = "rounds"
    __table_args__ = (
        Index(None, "phase", "org_id"),
        Index(None, "org_id", "created_at"),
        UniqueConstraint("series_id", "round_number"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name)
    series_id: Mapped[str] = mapped_column(_Id)
    round_number: Mapped[int] = mapped_column(Integer)
    num_rounds: Mapped[int] = mapped_column(Integer)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), index=True)
    base_version: Mapped[str] = mapped_column(_Id)
    base_digest: Mapped[str] = mapped_column(_Digest)
    phase: Mapped[str] = mapped_column(String(16))
    min_updates: Mapped[int] = mapped_column(Integer)
    cohort_size: Mapped[int | None] = mapped_column(Integer)
    deadline_s: Mapped[float] = mapped_column(Float)
    seed: Mapped[int] = mapped_column(BigInteger)
    norm_bound: Mapped[str] = mapped_column(String(16))
    config: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    num_selected: Mapped[int] = mapped_column(Integer)
    num_updates: Mapped[int] = mapped_column(Integer)
    num_samples: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deadline_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    new_version: Mapped[str | None] = mapped_column(_Id)
    next_round_id: Mapped[str | None] = mapped_column(_Id)
    reason: Mapped[str | None] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(Integer)
    lease_owner: Mapped[str | None] = mapped_column(_Name)
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    num_attempts: Mapped[int] = mapped_column(Integer)


class CohortRow(Base):
    """A device that was chosen for a round."""

    __tablename__ = "round_devices"

    round_id: Mapped[str] = mapped_column(ForeignKey("rounds.id", ondelete="CASCADE"), primary_key=True)
    device_id: Mapped[str] = mapped_column(
        ForeignKey("devices.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    org_id: Mapped[str] = mapped_column(_Name)


class UpdateRow(Base):
    """An update that counts: its file lies in the blob store under ``blob_digest``.

    ``digest`` is that of the body as it was sent; a legacy body is converted, so the two may differ.
    ``round_id`` is empty for legacy updates that wait for ``POST /training/aggregate``; ``new_version``
    then says into which version they went.
    """

    __tablename__ = "updates"
    __table_args__ = (
        UniqueConstraint("round_id", "device_id"),
        Index(
            "uq_updates_without_round",
            "device_id",
            "model_id",
            "base_version",
            "digest",
            unique=True,
            sqlite_where=text("round_id IS NULL"),
            postgresql_where=text("round_id IS NULL"),
        ),
        Index(None, "model_id", "base_version"),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name, index=True)
    round_id: Mapped[str | None] = mapped_column(ForeignKey("rounds.id", ondelete="CASCADE"))
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id", ondelete="CASCADE"))
    device_identifier: Mapped[str] = mapped_column(_Name)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    base_version: Mapped[str] = mapped_column(_Id)
    digest: Mapped[str] = mapped_column(_Digest)
    blob_digest: Mapped[str] = mapped_column(_Digest, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sample_count: Mapped[int] = mapped_column(BigInteger)
    norm: Mapped[float] = mapped_column(Float)
    metrics: Mapped[dict[str, JsonValue]] = mapped_column(JSON)
    accepted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    new_version: Mapped[str | None] = mapped_column(_Id)
