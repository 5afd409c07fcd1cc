"""Finding tokens by their identifiers, and what is held about each kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Row, Select, and_, select

from edgeml_server.auth.rules import BootstrapFacts, FamilyFacts
from edgeml_server.auth.tables import (
    AccessTokenRow,
    BootstrapTokenRow,
    OperatorTokenRow,
    RefreshTokenRow,
    TokenFamilyRow,
)
from edgeml_server.devices.tables import DeviceRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = [
    "BOOTSTRAP_FACTS",
    "FAMILY_FACTS",
    "OPERATOR_FACTS",
    "AccessFacts",
    "OperatorFacts",
    "RefreshFacts",
    "bootstrap_facts",
    "family_facts",
    "find_access",
    "find_bootstrap",
    "find_operator",
    "find_refresh",
    "operator_facts",
]


@dataclass(frozen=True)
class RefreshFacts:
    """What is held about one refresh token, and the family it is of."""

    secret_sha256: str
    generation: int
    family: FamilyFacts


@dataclass(frozen=True)
class AccessFacts:
    """What is held about one access token, and the device it speaks for."""

    org_id: str
    secret_sha256: str
    expires_at: datetime
    family_revoked_at: datetime | None
    scopes: tuple[str, ...]
    device_identifier: str
    device_id: str | None
    last_seen_at: datetime | None


@dataclass(frozen=True)
class OperatorFacts:
    """What is held about one operator token."""

    id: str
    org_id: str
    secret_sha256: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


BOOTSTRAP_FACTS: Final[Select[*tuple[Any, ...]]] = select(
    BootstrapTokenRow.id,
    BootstrapTokenRow.org_id,
    BootstrapTokenRow.secret_sha256,
    BootstrapTokenRow.scopes,
    BootstrapTokenRow.device_identifier,
    BootstrapTokenRow.single_use,
    BootstrapTokenRow.expires_at,
    BootstrapTokenRow.used_at,
    BootstrapTokenRow.revoked_at,
)
OPERATOR_FACTS: Final[Select[*tuple[Any, ...]]] = select(
    OperatorTokenRow.id,
    OperatorTokenRow.org_id,
    OperatorTokenRow.secret_sha256,
    OperatorTokenRow.scopes,
    OperatorTokenRow.created_at,
    OperatorTokenRow.revoked_at,
)
FAMILY_FACTS: Final[Select[*tuple[Any, ...]]] = select(
    TokenFamilyRow.id,
    TokenFamilyRow.org_id,
    TokenFamilyRow.device_identifier,
    TokenFamilyRow.bootstrap_token_id,
    TokenFamilyRow.scopes,
    TokenFamilyRow.access_ttl_s,
    TokenFamilyRow.created_at,
    TokenFamilyRow.generation,
    TokenFamilyRow.rotated_at,
    TokenFamilyRow.refresh_expires_at,
    TokenFamilyRow.revoked_at,
)


def bootstrap_facts(row: Row[*tuple[Any, ...]]) -> BootstrapFacts:
    """Return what is held about a bootstrap token, from a row of :data:`BOOTSTRAP_FACTS`."""
    return BootstrapFacts(
        id=row.id,
        org_id=row.org_id,
        secret_sha256=row.secret_sha256,
        scopes=tuple(row.scopes),
        device_identifier=row.device_identifier,
        single_use=row.single_use,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )


def operator_facts(row: Row[*tuple[Any, ...]]) -> OperatorFacts:
    """Return what is held about an operator token, from a row of :data:`OPERATOR_FACTS`."""
    return OperatorFacts(
        id=row.id,
        org_id=row.org_id,
        secret_sha256=row.secret_sha256,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def family_facts(row: Row[*tuple[Any, ...]]) -> FamilyFacts:
    """Return what is held about a family, from a row of :data:`FAMILY_FACTS`."""
    return FamilyFacts(
        id=row.id,
        org_id=row.org_id,
        device_identifier=row.device_identifier,
        bootstrap_token_id=row.bootstrap_token_id,
        scopes=tuple(row.scopes),
        access_ttl_s=row.access_ttl_s,
        created_at=row.created_at,
        generation=row.generation,
        rotated_at=row.rotated_at,
        refresh_expires_at=row.refresh_expires_at,
        revoked_at=row.revoked_at,
    )


# A token is what says which organization a call is for, so these four look-ups cannot be restricted to one:
# they find by the token's identifier, and the caller then compares the secret.


def find_bootstrap(session: Session, token_id: str) -> BootstrapFacts | None:
    """Return what is held under the identifier of a bootstrap token."""
    row = session.execute(BOOTSTRAP_FACTS.where(BootstrapTokenRow.id == token_id)).one_or_none()
    return None if row is None else bootstrap_facts(row)


def find_operator(session: Session, token_id: str) -> OperatorFacts | None:
    """Return what is held under the identifier of an operator token."""
    row = session.execute(OPERATOR_FACTS.where(OperatorTokenRow.id == token_id)).one_or_none()
    return None if row is None else operator_facts(row)


def find_refresh(session: Session, token_id: str) -> RefreshFacts | None:
    """Return what is held under the identifier of a refresh token."""
    statement = (
        FAMILY_FACTS.add_columns(RefreshTokenRow.secret_sha256, RefreshTokenRow.generation.label("presented"))
        .join(RefreshTokenRow, RefreshTokenRow.family_id == TokenFamilyRow.id)
        .where(RefreshTokenRow.id == token_id)
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else RefreshFacts(row.secret_sha256, row.presented, family_facts(row))


def find_access(session: Session, token_id: str) -> AccessFacts | None:
    """Return what is held under the identifier of an access token."""
    statement = (
        select(
            AccessTokenRow.org_id,
            AccessTokenRow.secret_sha256,
            AccessTokenRow.expires_at,
            TokenFamilyRow.revoked_at,
            TokenFamilyRow.scopes,
            TokenFamilyRow.device_identifier,
            DeviceRow.id,
            DeviceRow.last_seen_at,
        )
        .join(TokenFamilyRow, TokenFamilyRow.id == AccessTokenRow.family_id)
        .outerjoin(
            DeviceRow,
            and_(
                DeviceRow.org_id == TokenFamilyRow.org_id,
                DeviceRow.device_identifier == TokenFamilyRow.device_identifier,
            ),
        )
        .where(AccessTokenRow.id == token_id)
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    org_id, sha256, expires_at, revoked_at, scopes, identifier, device_id, seen_at = row
    return AccessFacts(org_id, sha256, expires_at, revoked_at, tuple(scopes), identifier, device_id, seen_at)
