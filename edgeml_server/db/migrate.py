"""Bring a database to the schema of this code."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.orm import Session

from edgeml_server.db.database import Database
from edgeml_server.db.engine import database_url

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["current_revision", "downgrade", "is_migrated", "newest_revision", "upgrade"]

_ADVISORY_LOCK: Final = 0x45444745
"""Any fixed number: workers that start together on PostgreSQL migrate one after the other."""


def upgrade(database: Database) -> str:
    """Apply the migrations that are missing, all or none; return the revision reached."""
    with database.unit_of_work() as work:
        connection = _one_at_a_time(work.session)
        # Alembic takes a while to read its files: a database that is up to date needs none of it.
        if _revision(connection) != newest_revision():
            command.upgrade(_config(connection), "head")
    return newest_revision()


def downgrade(database: Database, revision: str) -> None:
    """Take the schema back to ``revision``; ``"base"`` drops every table."""
    with database.unit_of_work() as work:
        command.downgrade(_config(_one_at_a_time(work.session)), revision)


def current_revision(database: Database) -> str | None:
    """Return the revision of the database; ``None`` before the first migration."""
    with database.snapshot() as session:
        return _revision(session.connection())


def is_migrated(url: str) -> bool:
    """Return whether a database holds a control plane, of this or another version; nothing is created.

    Raises:
        SetupError: The address cannot work.
        UnavailableError: The database is busy or not reachable.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_file():
        return False
    with closing(Database(url)) as database:
        return current_revision(database) is not None


def newest_revision() -> str:
    """Return the revision that this code expects."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return str(head)


def _one_at_a_time(session: Session) -> Connection:
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    return connection


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", "edgeml_server:db/migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
