"""Rows of the federations domain."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

__all__ = ["FederationRow", "InvitationRow"]


class FederationRow(Base):
    """A federation, of the organization that made it."""

    __tablename__ = "federations"
    __table_args__ = (UniqueConstraint("org_id", "name"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class InvitationRow(Base):
    """An organization that was asked to join; ``org_id`` is the federation's, as everywhere."""

    __tablename__ = "federation_invitations"

    federation_id: Mapped[str] = mapped_column(
        ForeignKey("federations.id", ondelete="CASCADE"), primary_key=True
    )
    invited_org_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(255))
    invited_at: Mapped[datetime] = mapped_column(UtcDateTime)
