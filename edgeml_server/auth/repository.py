"""Every statement that changes tokens."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from edgeml_server.auth.lookups import (
    BOOTSTRAP_FACTS,
    FAMILY_FACTS,
    OPERATOR_FACTS,
    bootstrap_facts,
    family_facts,
    operator_facts,
)
from edgeml_server.auth.tables import (
    AccessTokenRow,
    BootstrapTokenRow,
    OperatorTokenRow,
    RefreshTokenRow,
    TokenFamilyRow,
)
from edgeml_server.db import compare_and_set

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeml_server.auth.lookups import OperatorFacts
    from edgeml_server.auth.rules import BootstrapFacts, FamilyFacts
    from edgeml_server.auth.tokens import Token

__all__ = ["TokenRepository"]


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
        statement = BOOTSTRAP_FACTS.where(BootstrapTokenRow.org_id == self._org_id)
        rows = self._session.execute(statement.order_by(BootstrapTokenRow.created_at, BootstrapTokenRow.id))
        return [bootstrap_facts(row) for row in rows]

    def operators(self) -> list[OperatorFacts]:
        """Return the operator tokens, oldest first."""
        statement = OPERATOR_FACTS.where(OperatorTokenRow.org_id == self._org_id)
        rows = self._session.execute(statement.order_by(OperatorTokenRow.created_at, OperatorTokenRow.id))
        return [operator_facts(row) for row in rows]

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
        statement = FAMILY_FACTS.where(
            TokenFamilyRow.org_id == self._org_id,
            TokenFamilyRow.device_identifier == device_identifier,
            TokenFamilyRow.revoked_at.is_(None),
        )
        row = self._session.execute(statement).one_or_none()
        return None if row is None else family_facts(row)

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
