"""From an ``Authorization`` header to the principal it stands for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from edgeml_server.auth.lookups import find_access, find_operator
from edgeml_server.auth.principal import Principal
from edgeml_server.auth.tokens import Token, TokenKind, parse_token, sha256_matches
from edgeml_server.devices.repository import DeviceRepository
from edgeml_server.errors import UnauthenticatedError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from edgeml_server.auth.lookups import AccessFacts
    from edgeml_server.plane import ControlPlane

__all__ = ["identify", "parse_bearer"]


def parse_bearer(header: str | None) -> str:
    """Return the token of an ``Authorization: Bearer`` header.

    Raises:
        UnauthenticatedError: The header is absent or of another form.
    """
    scheme, _, token = (header or "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError("send the header Authorization: Bearer <access token>")
    return token.strip()


def identify(plane: ControlPlane, bearer: str) -> Principal:
    """Return who holds this token, and note that the device was seen.

    Raises:
        UnauthenticatedError: The token is wrong, expired or revoked.
    """
    token = parse_token(bearer)
    now = plane.clock.now()
    with plane.database.snapshot() as session:
        if token is not None and token.kind is TokenKind.OPERATOR:
            return _operator(session, token)
        facts = _device_facts(session, token, now=now)
    if _is_stale(facts, now=now, resolution_s=plane.settings.last_seen_resolution_s):
        with plane.database.unit_of_work() as work:
            DeviceRepository(work.session, facts.org_id).touch(facts.device_identifier, now=now)
    return Principal(
        org_id=facts.org_id,
        scopes=frozenset(facts.scopes),
        device_identifier=facts.device_identifier,
        device_id=facts.device_id,
    )


def _operator(session: Session, token: Token) -> Principal:
    facts = find_operator(session, token.id)
    if facts is None or facts.revoked_at is not None or not sha256_matches(token, facts.secret_sha256):
        raise UnauthenticatedError("the operator token is wrong or revoked; create another one")
    return Principal(org_id=facts.org_id, scopes=frozenset(facts.scopes))


def _device_facts(session: Session, token: Token | None, *, now: datetime) -> AccessFacts:
    facts = None
    if token is not None and token.kind is TokenKind.ACCESS:
        facts = find_access(session, token.id)
    if token is None or facts is None or not sha256_matches(token, facts.secret_sha256):
        raise UnauthenticatedError(
            "this is not an access token of this control plane; refresh, or enrol again"
        )
    if facts.family_revoked_at is not None:
        raise UnauthenticatedError("the access token is revoked; enrol the device again")
    if now >= facts.expires_at:
        raise UnauthenticatedError("the access token has expired; refresh it")
    return facts


def _is_stale(facts: AccessFacts, *, now: datetime, resolution_s: int) -> bool:
    # One write for each call would make every download wait for the disk.
    return facts.last_seen_at is not None and now - facts.last_seen_at >= timedelta(seconds=resolution_s)
