"""The control plane's own key: drawn once, shared by all workers through the database."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from edgeml_server.auth.tables import ServerSecretRow

if TYPE_CHECKING:
    from pydantic import SecretStr
    from sqlalchemy.orm import Session

    from edgeml_server.db import Database

__all__ = ["server_key"]

_NAME: Final = "derivation"


def server_key(database: Database, configured: SecretStr | None) -> bytes:
    """Return 32 bytes that are the same for every worker of this control plane.

    Args:
        configured: The operator's own secret; by default one is drawn and kept in the database.
    """
    if configured is not None:
        return hashlib.sha256(configured.get_secret_value().encode()).digest()
    with database.snapshot() as session:
        held = _find(session)
    if held is None:
        with database.unit_of_work() as work:
            held = _draw(work.session)
    return bytes.fromhex(held)


def _find(session: Session) -> str | None:
    return session.scalar(select(ServerSecretRow.value).where(ServerSecretRow.name == _NAME))


def _draw(session: Session) -> str:
    drawn = secrets.token_hex(32)
    try:
        with session.begin_nested():
            session.add(ServerSecretRow(name=_NAME, value=drawn))
    except IntegrityError:  # another worker was first
        return _find(session) or drawn
    return drawn
