"""Rows of the auth domain; of every secret only its SHA-256 is held."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, Boolean, ForeignKey, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from edgeml_server.db.tables import Base, UtcDateTime

__all__ = [
    "AccessTokenRow",
    "BootstrapTokenRow",
    "OperatorTokenRow",
    "RefreshTokenRow",
    "ServerSecretRow",
    "TokenFamilyRow",
]

_Id = String(64)
_Name = String(255)
_Sha256 = String(64)


class ServerSecretRow(Base):
    """A key of the control plane itself; the one table that belongs to no organization."""

    __tablename__ = "server_secrets"

    name: Mapped[str] = mapped_column(_Id, primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


class BootstrapTokenRow(Base):
    """A token that enrols a device."""

    __tablename__ = "bootstrap_tokens"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name, index=True)
    secret_sha256: Mapped[str] = mapped_column(_Sha256)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    device_identifier: Mapped[str | None] = mapped_column(_Name)
    single_use: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class OperatorTokenRow(Base):
    """A long-lived token of an organization's operators."""

    __tablename__ = "operator_tokens"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name, index=True)
    secret_sha256: Mapped[str] = mapped_column(_Sha256)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TokenFamilyRow(Base):
    """All tokens that descend from one enrolment of one device.

    ``generation`` counts the refresh tokens issued; it is what compare-and-set compares when rotating.
    A device has at most one family that is not revoked.
    """

    __tablename__ = "token_families"
    __table_args__ = (
        Index(
            "uq_token_families_live",
            "org_id",
            "device_identifier",
            unique=True,
            sqlite_where=text("revoked_at IS NULL"),
            postgresql_where=text("revoked_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name)
    device_identifier: Mapped[str] = mapped_column(_Name)
    bootstrap_token_id: Mapped[str] = mapped_column(_Id, index=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    access_ttl_s: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    generation: Mapped[int] = mapped_column(Integer)
    rotated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    refresh_expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoke_reason: Mapped[str | None] = mapped_column(_Name)


class RefreshTokenRow(Base):
    """A refresh token that was issued; old ones are kept to recognise their re-use."""

    __tablename__ = "refresh_tokens"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name)
    family_id: Mapped[str] = mapped_column(ForeignKey("token_families.id", ondelete="CASCADE"), index=True)
    generation: Mapped[int] = mapped_column(Integer)
    secret_sha256: Mapped[str] = mapped_column(_Sha256)


class AccessTokenRow(Base):
    """An access token that was issued."""

    __tablename__ = "access_tokens"

    id: Mapped[str] = mapped_column(_Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(_Name)
    family_id: Mapped[str] = mapped_column(ForeignKey("token_families.id", ondelete="CASCADE"), index=True)
    secret_sha256: Mapped[str] = mapped_column(_Sha256)
    issued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
