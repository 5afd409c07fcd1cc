"""Enrolling devices, and rotating and revoking their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr
from sqlalchemy.exc import IntegrityError

from edgeml_client.schemas import BootstrapRequest, TokenResponse
from edgeml_server.auth.lookups import find_bootstrap, find_refresh
from edgeml_server.auth.repository import TokenRepository
from edgeml_server.auth.rules import (
    Enrolment,
    FamilyFacts,
    RefreshVerdict,
    judge_bootstrap,
    judge_refresh,
)
from edgeml_server.auth.tokens import (
    Token,
    TokenKind,
    derive_token,
    draw_token,
    parse_token,
    sha256_matches,
)
from edgeml_server.db import new_id
from edgeml_server.errors import ContradictionError, UnauthenticatedError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeml_server.auth.lookups import RefreshFacts
    from edgeml_server.auth.rules import BootstrapFacts
    from edgeml_server.db import UnitOfWork

__all__ = ["Refusal", "TokenPolicy", "bootstrap", "refresh", "revoke"]

_MAX_RIVALS: Final = 8
"""How often a decision is taken anew because somebody else changed the same row first."""


@dataclass(frozen=True)
class TokenPolicy:
    """How long tokens live, and the key that derives them.

    Attributes:
        grace_s: For how many seconds a lost answer is given again.
        remembered_generations: Refresh tokens of a family that are older than so many are forgotten: they are
            refused, but no longer revoke the family.
    """

    access_ttl_s: int
    refresh_ttl_s: int
    grace_s: int
    key: bytes = field(repr=False)
    remembered_generations: int = 100


@dataclass(frozen=True)
class Refusal:
    """The answer is no, and what was changed on the way must be kept."""

    detail: str


class _LostToRivalError(Exception):
    """Somebody else changed the same rows first: look again, decide again."""


def bootstrap(
    work: UnitOfWork, presented: str, request: BootstrapRequest, *, policy: TokenPolicy, now: datetime
) -> TokenResponse:
    """Enrol a device: answer its first tokens.

    Args:
        presented: The bootstrap token, as it came.

    Raises:
        ControlPlaneError: As :func:`judge_bootstrap` decides.
    """
    for _ in range(_MAX_RIVALS):
        token = _find_genuine_bootstrap(work.session, presented)
        tokens = TokenRepository(work.session, token.org_id)
        live = tokens.find_live_family(request.device_identifier)
        enrolment = judge_bootstrap(token, request, live=live, now=now, grace_s=policy.grace_s)
        try:
            with work.session.begin_nested():
                return _enrol(tokens, token, request, enrolment, policy=policy, now=now)
        except (_LostToRivalError, IntegrityError):
            continue
    raise ContradictionError("this device is being enrolled by several callers at once; try again")


def refresh(
    work: UnitOfWork, presented: SecretStr, *, policy: TokenPolicy, now: datetime
) -> TokenResponse | Refusal:
    """Rotate a refresh token, or repeat the answer of its rotation, or refuse.

    A re-used token revokes its family, which must be kept: hence a returned refusal, not an exception.
    """
    token = _parse(presented, TokenKind.REFRESH)
    for _ in range(_MAX_RIVALS):
        facts = None if token is None else find_refresh(work.session, token.id)
        if token is None or facts is None or not sha256_matches(token, facts.secret_sha256):
            break
        tokens = TokenRepository(work.session, facts.family.org_id)
        verdict = judge_refresh(facts.generation, facts.family, now=now, grace_s=policy.grace_s)
        match verdict:
            case RefreshVerdict.ROTATE:
                answer = _rotate(tokens, token, facts, policy=policy, now=now)
            case RefreshVerdict.REPEAT:
                answer = _repeat(tokens, token, facts, policy=policy)
            case RefreshVerdict.REVOKE:
                tokens.revoke_family(facts.family.id, now=now, reason="refresh_token_reuse")
                return Refusal(
                    "this refresh token was replaced long ago, so somebody may have copied it: all tokens "
                    "of this device are revoked; enrol it again with a new bootstrap token"
                )
            case RefreshVerdict.REFUSE:
                break
        if answer is not None:
            return answer
    return Refusal("the refresh token is wrong, expired or revoked; enrol the device again")


def revoke(work: UnitOfWork, presented: SecretStr, *, reason: str, now: datetime) -> None:
    """Revoke the family of a refresh token; an unknown token is as good as revoked."""
    token = _parse(presented, TokenKind.REFRESH)
    facts = None if token is None else find_refresh(work.session, token.id)
    if token is None or facts is None or not sha256_matches(token, facts.secret_sha256):
        return
    TokenRepository(work.session, facts.family.org_id).revoke_family(facts.family.id, now=now, reason=reason)


def _find_genuine_bootstrap(session: Session, presented: str) -> BootstrapFacts:
    token = _parse(SecretStr(presented), TokenKind.BOOTSTRAP)
    facts = None if token is None else find_bootstrap(session, token.id)
    if token is None or facts is None or not sha256_matches(token, facts.secret_sha256):
        raise UnauthenticatedError(
            "this is not a bootstrap token of this control plane; ask an operator for one"
        )
    return facts


def _parse(presented: SecretStr, kind: TokenKind) -> Token | None:
    token = parse_token(presented.get_secret_value())
    return token if token is not None and token.kind is kind else None


def _enrol(
    tokens: TokenRepository,
    token: BootstrapFacts,
    request: BootstrapRequest,
    enrolment: Enrolment,
    *,
    policy: TokenPolicy,
    now: datetime,
) -> TokenResponse:
    if enrolment.claims and not tokens.claim_bootstrap(token.id, now=now):
        raise _LostToRivalError
    if enrolment.replaces and not tokens.revoke_family(enrolment.replaces, now=now, reason="enrolled_again"):
        raise _LostToRivalError
    family = FamilyFacts(
        id=new_id("fam"),
        org_id=token.org_id,
        device_identifier=request.device_identifier,
        bootstrap_token_id=token.id,
        scopes=enrolment.scopes,
        access_ttl_s=request.access_ttl_seconds or policy.access_ttl_s,
        created_at=now,
        generation=1,
        rotated_at=now,
        refresh_expires_at=now + timedelta(seconds=policy.refresh_ttl_s),
        revoked_at=None,
    )
    tokens.add_family(family)
    return _issue(tokens, family, draw_token(TokenKind.REFRESH), draw_token(TokenKind.ACCESS), now=now)


def _rotate(
    tokens: TokenRepository, presented: Token, facts: RefreshFacts, *, policy: TokenPolicy, now: datetime
) -> TokenResponse | None:
    family = facts.family
    refresh_expires_at = now + timedelta(seconds=policy.refresh_ttl_s)
    if not tokens.rotate_family(family, rotated_at=now, refresh_expires_at=refresh_expires_at):
        return None
    rotated = replace(family, generation=family.generation + 1)
    tokens.forget_old(
        family.id, now=now, before_generation=rotated.generation - policy.remembered_generations
    )
    successor, access = _successors(presented, key=policy.key)
    return _issue(tokens, rotated, successor, access, now=now)


def _repeat(
    tokens: TokenRepository, presented: Token, facts: RefreshFacts, *, policy: TokenPolicy
) -> TokenResponse | None:
    successor, access = _successors(presented, key=policy.key)
    expires_at = tokens.find_access_expiry(access.id)
    # Absent only if the operator changed the key in between: then the successor cannot be derived again.
    return None if expires_at is None else _answer(facts.family, successor, access, expires_at=expires_at)


def _successors(presented: Token, *, key: bytes) -> tuple[Token, Token]:
    return (
        derive_token(TokenKind.REFRESH, presented, key=key),
        derive_token(TokenKind.ACCESS, presented, key=key),
    )


def _issue(
    tokens: TokenRepository, family: FamilyFacts, successor: Token, access: Token, *, now: datetime
) -> TokenResponse:
    expires_at = now + timedelta(seconds=family.access_ttl_s)
    tokens.add_refresh(successor, family_id=family.id, generation=family.generation)
    tokens.add_access(access, family_id=family.id, issued_at=now, expires_at=expires_at)
    return _answer(family, successor, access, expires_at=expires_at)


def _answer(family: FamilyFacts, successor: Token, access: Token, *, expires_at: datetime) -> TokenResponse:
    return TokenResponse(
        access_token=SecretStr(access.text),
        refresh_token=SecretStr(successor.text),
        expires_at=expires_at,
        org_id=family.org_id,
        device_identifier=family.device_identifier,
        scopes=family.scopes,
    )
