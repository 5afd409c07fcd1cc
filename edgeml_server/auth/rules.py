"""Who gets tokens: decisions on values, without clock, database or randomness."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from edgeml_server.errors import AbsentError, ContradictionError, ForbiddenError, UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeml_client.schemas import BootstrapRequest

__all__ = [
    "ALL_SCOPES",
    "BootstrapFacts",
    "Enrolment",
    "FamilyFacts",
    "RefreshVerdict",
    "check_grant",
    "check_org",
    "granted_scopes",
    "judge_bootstrap",
    "judge_refresh",
]

ALL_SCOPES: Final = ("devices:write", "models:write", "rounds:write", "tokens:write")


@dataclass(frozen=True)
class BootstrapFacts:
    """What is held about a bootstrap token.

    Attributes:
        device_identifier: The only device it may enrol; ``None`` for any.
    """

    id: str
    org_id: str
    secret_sha256: str
    scopes: tuple[str, ...]
    device_identifier: str | None
    single_use: bool
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True)
class FamilyFacts:
    """What is held about the tokens of one enrolment.

    Attributes:
        generation: The number of refresh tokens issued; the last one is the current one.
    """

    id: str
    org_id: str
    device_identifier: str
    bootstrap_token_id: str
    scopes: tuple[str, ...]
    access_ttl_s: int
    created_at: datetime
    generation: int
    rotated_at: datetime
    refresh_expires_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Enrolment:
    """A device may have tokens.

    Attributes:
        replaces: The family to revoke in the same step.
        claims: Whether the bootstrap token must be marked as used in the same step.
    """

    scopes: tuple[str, ...]
    replaces: str | None
    claims: bool


class RefreshVerdict(StrEnum):
    """What becomes of a refresh token that was presented."""

    ROTATE = "rotate"
    REPEAT = "repeat"
    REVOKE = "revoke"
    REFUSE = "refuse"


def judge_bootstrap(
    token: BootstrapFacts,
    request: BootstrapRequest,
    *,
    live: FamilyFacts | None,
    now: datetime,
    grace_s: int,
) -> Enrolment:
    """Decide whether the bearer of a bootstrap token is enrolled.

    Args:
        live: The family of that device that is not revoked, if any.
        grace_s: For how long the same device may repeat a call whose answer it may have lost.

    Raises:
        AbsentError: The token is of another organization.
        UnauthenticatedError: The token is revoked, used or expired.
        ForbiddenError: It is bound to another device, or does not grant the scopes.
        ContradictionError: The device is enrolled, and the token is not bound to it.
    """
    check_org(token.org_id, request.org_id)
    if token.revoked_at is not None:
        raise UnauthenticatedError("this bootstrap token is revoked; ask an operator for a new one")
    if token.device_identifier not in {None, request.device_identifier}:
        raise ForbiddenError("this bootstrap token is bound to another device; ask for one for this device")
    scopes = granted_scopes(token.scopes, request.scopes)
    if live is not None and _answer_may_be_lost(token, live, now=now, grace_s=grace_s):
        return Enrolment(scopes, replaces=live.id, claims=False)
    if token.single_use and token.used_at is not None:
        raise UnauthenticatedError("this bootstrap token was used already; ask an operator for a new one")
    if now >= token.expires_at:
        raise UnauthenticatedError("this bootstrap token has expired; ask an operator for a new one")
    if live is not None and now < live.refresh_expires_at and token.device_identifier is None:
        raise ContradictionError(
            "this device is enrolled already; ask for a bootstrap token bound to its device_identifier, "
            "or revoke its tokens first"
        )
    return Enrolment(scopes, replaces=None if live is None else live.id, claims=token.single_use)


def judge_refresh(
    presented_generation: int, family: FamilyFacts, *, now: datetime, grace_s: int
) -> RefreshVerdict:
    """Decide what becomes of the refresh token of a generation.

    The current token rotates. The one before it is answered again, with the very same successor, for
    ``grace_s`` seconds and until that successor is used, because its answer may have been lost. Anything
    older was copied: the family is revoked, and with it whatever the thief holds.
    """
    if family.revoked_at is not None:
        return RefreshVerdict.REFUSE
    if presented_generation == family.generation:
        return RefreshVerdict.REFUSE if now >= family.refresh_expires_at else RefreshVerdict.ROTATE
    replaced_just_now = now - family.rotated_at <= timedelta(seconds=grace_s)
    if presented_generation == family.generation - 1 and replaced_just_now:
        return RefreshVerdict.REPEAT
    return RefreshVerdict.REVOKE


def granted_scopes(held: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes to grant: those wanted, or all that are held if none is named.

    Raises:
        ForbiddenError: Something wanted is not held.
    """
    missing = sorted(set(wanted) - set(held))
    if missing:
        raise ForbiddenError(f"the token does not grant {', '.join(missing)}; it grants {', '.join(held)}")
    return tuple(dict.fromkeys(wanted or held))


def check_grant(held: frozenset[str], needed: str) -> None:
    """Return if ``needed`` is among the scopes.

    Raises:
        ForbiddenError: It is not.
    """
    if needed not in held:
        raise ForbiddenError(f"this call needs the scope {needed}; use a token that has it")


def check_org(token_org_id: str, named_org_id: str | None) -> None:
    """Return if the request names no organization, or the token's.

    Raises:
        AbsentError: It names another; whether that one exists is not told.
    """
    if named_org_id is not None and named_org_id != token_org_id:
        raise AbsentError(
            f"there is no organization {named_org_id!r} for this token; check org_id, or use its token"
        )


def _answer_may_be_lost(token: BootstrapFacts, live: FamilyFacts, *, now: datetime, grace_s: int) -> bool:
    fresh = now - live.created_at <= timedelta(seconds=grace_s)
    return live.bootstrap_token_id == token.id and live.generation == 1 and fresh
