"""Every statement about tokens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, and_, delete, select

from edgeml_server.auth.rules import BootstrapFacts, FamilyFacts
from edgeml_server.auth.tables import (
    AccessTokenRow,
    BootstrapTokenRow,
    OperatorTokenRow,
    RefreshTokenRow,
    TokenFamilyRow,
)
from edgeml_server.db import compare_and_set
from edgeml_server.devices.tables import DeviceRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeml_server.auth.tokens import Token

__all__ = [
    "AccessFacts",
    "OperatorFacts",
    "RefreshFacts",
    "TokenRepository",
    "find_access",
    "find_bootstrap",
    "find_operator",
    "find_refresh",
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


# A token is what says which organization a call is for, so these four look-ups cannot be restricted to one:
# they find by the token's identifier, and the caller then compares the secret.


def find_bootstrap(session: Session, token_id: str) -> BootstrapFacts | None:
    """Return what is held under the identifier of a bootstrap token."""
    row = session.execute(_BOOTSTRAP.where(BootstrapTokenRow.id == token_id)).one_or_none()
    return None if row is None else _bootstrap(row)


def find_operator(session: Session, token_id: str) -> OperatorFacts | None:
    """Return what is held under the identifier of an operator token."""
    row = session.execute(_OPERATOR.where(OperatorTokenRow.id == token_id)).one_or_none()
    return None if row is None else _operator(row)


def find_refresh(session: Session, token_id: str) -> RefreshFacts | None:
    """Return what is held under the identifier of a refresh token."""
    statement = (
        _FAMILY.add_columns(RefreshTokenRow.secret_sha256, RefreshTokenRow.generation.label("presented"))
        .join(RefreshTokenRow, RefreshTokenRow.family_id == TokenFamilyRow.id)
        .where(RefreshTokenRow.id == token_id)
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else RefreshFacts(row.secret_sha256, row.presented, _family(row))


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


class TokenRepository:
    """The statements about the tokens of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    # Bootstrap and operator tokens

    def add_bootstrap(
        self,
        token: Token,
        *,
        scopes: tuple[str, ...],
        device_identifier: str | None,
        single_use: bool,
        created_at: datetime,
        expires_at: datetime,
    ) -> None:
        """Hold a new bootstrap token."""
        row = BootstrapTokenRow(
            id=token.id,
            org_id=self._org_id,
            secret_sha256=token.secret_sha256,
            scopes=list(scopes),
            device_identifier=device_identifier,
            single_use=single_use,
            created_at=created_at,
            expires_at=expires_at,
        )
        self._session.add(row)
        self._session.flush()

    def add_operator(self, token: Token, *, scopes: tuple[str, ...], created_at: datetime) -> None:
        """Hold a new operator token."""
        row = OperatorTokenRow(
            id=token.id,
            org_id=self._org_id,
            secret_sha256=token.secret_sha256,
            scopes=list(scopes),
            created_at=created_at,
        )
        self._session.add(row)
        self._session.flush()

    def bootstraps(self) -> list[BootstrapFacts]:
        """Return the bootstrap tokens, oldest first."""
        statement = _BOOTSTRAP.where(BootstrapTokenRow.org_id == self._org_id)
        rows = self._session.execute(statement.order_by(BootstrapTokenRow.created_at, BootstrapTokenRow.id))
        return [_bootstrap(row) for row in rows]

    def operators(self) -> list[OperatorFacts]:
        """Return the operator tokens, oldest first."""
        statement = _OPERATOR.where(OperatorTokenRow.org_id == self._org_id)
        rows = self._session.execute(statement.order_by(OperatorTokenRow.created_at, OperatorTokenRow.id))
        return [_operator(row) for row in rows]

    def claim_bootstrap(self, token_id: str, *, now: datetime) -> bool:
        """Mark a bootstrap token as used; ``False`` if it is used or revoked already."""
        return compare_and_set(
            self._session,
            BootstrapTokenRow,
            BootstrapTokenRow.org_id == self._org_id,
            BootstrapTokenRow.id == token_id,
            BootstrapTokenRow.used_at.is_(None),
            BootstrapTokenRow.revoked_at.is_(None),
            values={"used_at": now},
        )

    def revoke_issued(self, token_id: str, *, now: datetime) -> bool:
        """Revoke a bootstrap or operator token; ``False`` if there is none of that identifier."""
        found = False
        for table in (BootstrapTokenRow, OperatorTokenRow):
            mine = (table.org_id == self._org_id, table.id == token_id)
            found = found or self._session.scalar(select(table.id).where(*mine)) is not None
            compare_and_set(
                self._session, table, *mine, table.revoked_at.is_(None), values={"revoked_at": now}
            )
        return found

    # Families

    def find_live_family(self, device_identifier: str) -> FamilyFacts | None:
        """Return the device's family that is not revoked, if there is one."""
        statement = _FAMILY.where(
            TokenFamilyRow.org_id == self._org_id,
            TokenFamilyRow.device_identifier == device_identifier,
            TokenFamilyRow.revoked_at.is_(None),
        )
        row = self._session.execute(statement).one_or_none()
        return None if row is None else _family(row)

    def add_family(self, family: FamilyFacts) -> None:
        """Hold a new family; raises ``IntegrityError`` if the device has a live one."""
        row = TokenFamilyRow(
            id=family.id,
            org_id=self._org_id,
            device_identifier=family.device_identifier,
            bootstrap_token_id=family.bootstrap_token_id,
            scopes=list(family.scopes),
            access_ttl_s=family.access_ttl_s,
            created_at=family.created_at,
            generation=family.generation,
            rotated_at=family.rotated_at,
            refresh_expires_at=family.refresh_expires_at,
        )
        self._session.add(row)
        self._session.flush()

    def rotate_family(
        self, family: FamilyFacts, *, rotated_at: datetime, refresh_expires_at: datetime
    ) -> bool:
        """Move to the next generation; ``False`` if a rival did so first, or the family is revoked."""
        return compare_and_set(
            self._session,
            TokenFamilyRow,
            TokenFamilyRow.org_id == self._org_id,
            TokenFamilyRow.id == family.id,
            TokenFamilyRow.generation == family.generation,
            TokenFamilyRow.revoked_at.is_(None),
            values={
                "generation": family.generation + 1,
                "rotated_at": rotated_at,
                "refresh_expires_at": refresh_expires_at,
            },
        )

    def revoke_family(self, family_id: str, *, now: datetime, reason: str) -> bool:
        """Revoke every token of a family; ``False`` if it is revoked already."""
        return compare_and_set(
            self._session,
            TokenFamilyRow,
            TokenFamilyRow.org_id == self._org_id,
            TokenFamilyRow.id == family_id,
            TokenFamilyRow.revoked_at.is_(None),
            values={"revoked_at": now, "revoke_reason": reason},
        )

    # Refresh and access tokens

    def add_refresh(self, token: Token, *, family_id: str, generation: int) -> None:
        """Hold a refresh token."""
        row = RefreshTokenRow(
            id=token.id,
            org_id=self._org_id,
            family_id=family_id,
            generation=generation,
            secret_sha256=token.secret_sha256,
        )
        self._session.add(row)

    def add_access(self, token: Token, *, family_id: str, issued_at: datetime, expires_at: datetime) -> None:
        """Hold an access token."""
        row = AccessTokenRow(
            id=token.id,
            org_id=self._org_id,
            family_id=family_id,
            secret_sha256=token.secret_sha256,
            issued_at=issued_at,
            expires_at=expires_at,
        )
        self._session.add(row)

    def find_access_expiry(self, token_id: str) -> datetime | None:
        """Return when an access token expires; ``None`` if it is not held."""
        statement = select(AccessTokenRow.expires_at).where(
            AccessTokenRow.org_id == self._org_id, AccessTokenRow.id == token_id
        )
        return self._session.scalar(statement)

    def forget_old(self, family_id: str, *, now: datetime, before_generation: int) -> None:
        """Drop a family's expired access tokens and its oldest refresh tokens."""
        self._session.execute(
            delete(AccessTokenRow).where(
                AccessTokenRow.org_id == self._org_id,
                AccessTokenRow.family_id == family_id,
                AccessTokenRow.expires_at <= now,
            )
        )
        self._session.execute(
            delete(RefreshTokenRow).where(
                RefreshTokenRow.org_id == self._org_id,
                RefreshTokenRow.family_id == family_id,
                RefreshTokenRow.generation < before_generation,
            )
        )


_BOOTSTRAP: Select[*tuple[Any, ...]] = select(
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
_OPERATOR: Select[*tuple[Any, ...]] = select(
    OperatorTokenRow.id,
    OperatorTokenRow.org_id,
    OperatorTokenRow.secret_sha256,
    OperatorTokenRow.scopes,
    OperatorTokenRow.created_at,
    OperatorTokenRow.revoked_at,
)
_FAMILY: Select[*tuple[Any, ...]] = select(
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


def _bootstrap(row: Row[*tuple[Any, ...]]) -> BootstrapFacts:
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


def _operator(row: Row[*tuple[Any, ...]]) -> OperatorFacts:
    return OperatorFacts(
        id=row.id,
        org_id=row.org_id,
        secret_sha256=row.secret_sha256,
        scopes=tuple(row.scopes),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )


def _family(row: Row[*tuple[Any, ...]]) -> FamilyFacts:
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
