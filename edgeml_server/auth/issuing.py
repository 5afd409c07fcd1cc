"""What operators do with tokens: issue, list, revoke."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import Field, SecretStr

from edgeml_client.schemas import Identifier, Record, WireBody
from edgeml_server.auth.repository import TokenRepository
from edgeml_server.auth.rules import ALL_SCOPES, granted_scopes
from edgeml_server.auth.tokens import TokenKind, draw_token
from edgeml_server.errors import AbsentError, InvalidContentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from edgeml_server.db import UnitOfWork

__all__ = [
    "IssuedToken",
    "TokenOrder",
    "TokenSummary",
    "issue_bootstrap",
    "issue_operator",
    "list_issued",
    "revoke_issued",
]


class TokenOrder(WireBody):
    """``POST /tokens``: a bootstrap token to be.

    Attributes:
        device_identifier: Bind it to one device; that device may then enrol although it is enrolled.
        ttl_s: Its life in seconds; by default the control plane's setting.
        single_use: Whether the first enrolment uses it up.
    """

    scopes: tuple[str, ...] = ("devices:write",)
    device_identifier: Identifier | None = None
    ttl_s: int | None = Field(default=None, ge=1, le=90 * 24 * 3600)
    single_use: bool = True


class TokenSummary(Record):
    """An issued token, without its secret."""

    id: str
    kind: str
    org_id: str
    scopes: tuple[str, ...]
    device_identifier: str | None = None
    expires_at: datetime | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None


class IssuedToken(TokenSummary):
    """A token at the only moment at which its secret is known."""

    token: SecretStr


def issue_bootstrap(
    work: UnitOfWork,
    org_id: str,
    order: TokenOrder,
    *,
    held: Sequence[str],
    default_ttl_s: int,
    now: datetime,
) -> IssuedToken:
    """Create a bootstrap token.

    Args:
        held: The scopes of who asks; nobody grants more than they hold.

    Raises:
        ForbiddenError: More is asked for than is held.
        InvalidContentError: A scope does not exist.
    """
    _check_known(order.scopes)
    scopes = granted_scopes(held, order.scopes)
    token = draw_token(TokenKind.BOOTSTRAP)
    expires_at = now + timedelta(seconds=order.ttl_s or default_ttl_s)
    TokenRepository(work.session, org_id).add_bootstrap(
        token,
        scopes=scopes,
        device_identifier=order.device_identifier,
        single_use=order.single_use,
        created_at=now,
        expires_at=expires_at,
    )
    return IssuedToken(
        id=token.id,
        kind="bootstrap",
        org_id=org_id,
        scopes=scopes,
        device_identifier=order.device_identifier,
        expires_at=expires_at,
        token=SecretStr(token.text),
    )


def issue_operator(work: UnitOfWork, org_id: str, *, scopes: Sequence[str], now: datetime) -> IssuedToken:
    """Create an operator token, which lives until it is revoked.

    Raises:
        InvalidContentError: A scope does not exist.
    """
    _check_known(scopes)
    token = draw_token(TokenKind.OPERATOR)
    TokenRepository(work.session, org_id).add_operator(token, scopes=tuple(scopes), created_at=now)
    return IssuedToken(
        id=token.id, kind="operator", org_id=org_id, scopes=tuple(scopes), token=SecretStr(token.text)
    )


def list_issued(session: Session, org_id: str) -> tuple[TokenSummary, ...]:
    """Return the organization's bootstrap and operator tokens, without their secrets."""
    tokens = TokenRepository(session, org_id)
    bootstraps = (
        TokenSummary(
            id=held.id,
            kind="bootstrap",
            org_id=held.org_id,
            scopes=held.scopes,
            device_identifier=held.device_identifier,
            expires_at=held.expires_at,
            used_at=held.used_at,
            revoked_at=held.revoked_at,
        )
        for held in tokens.bootstraps()
    )
    operators = (
        TokenSummary(
            id=held.id, kind="operator", org_id=held.org_id, scopes=held.scopes, revoked_at=held.revoked_at
        )
        for held in tokens.operators()
    )
    return (*bootstraps, *operators)


def revoke_issued(work: UnitOfWork, org_id: str, token_id: str, *, now: datetime) -> None:
    """Revoke a bootstrap or operator token; devices enrolled with it keep their own tokens.

    Raises:
        AbsentError: The organization has no such token.
    """
    if not TokenRepository(work.session, org_id).revoke_issued(token_id, now=now):
        raise AbsentError(f"there is no token {token_id!r}; list them to find its id")


def _check_known(scopes: Sequence[str]) -> None:
    unknown = sorted(set(scopes) - set(ALL_SCOPES))
    if unknown:
        raise InvalidContentError(f"unknown scopes {', '.join(unknown)}; known are {', '.join(ALL_SCOPES)}")
