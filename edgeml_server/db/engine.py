"""The engine: SQLite prepared for durability and one writer, or PostgreSQL through psycopg."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from edgeml_server.db.failures import to_json
from edgeml_server.errors import SetupError

__all__ = ["BEGIN_OPTION", "check_workers", "database_url", "open_engine"]

_LOG = logging.getLogger(__name__)

BEGIN_OPTION: Final = "edgeml_begin"
"""Execution option that says how SQLite begins: ``DEFERRED`` reads, ``IMMEDIATE`` writes."""

_BUSY_TIMEOUT_MS: Final = 30_000
_PRAGMAS: Final = (
    f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # an accepted update or token must survive a power cut
    "PRAGMA foreign_keys = ON",
)
_LAST_SQLITE_WITH_WAL_BUG: Final = (3, 51, 2)
_DRIVERS: Final = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


def database_url(text: str) -> URL:
    """Return the parsed address of a database this control plane can use.

    Raises:
        SetupError: The address cannot be read, or names another kind of database.
    """
    try:
        url = make_url(text)
    except ArgumentError as exc:
        raise SetupError(
            "the database URL cannot be read; use sqlite:///path/to/file.db or postgresql://user@host/database"
        ) from exc
    driver = _DRIVERS.get(url.drivername, url.drivername)
    if driver not in _DRIVERS.values():
        raise SetupError(f"the database URL names {url.drivername!r}; use sqlite:/// or postgresql://")
    if driver == "sqlite" and url.database in {None, "", ":memory:"}:
        raise SetupError(
            "SQLite in memory cannot be shared by threads; name a file: sqlite:///path/to/file.db"
        )
    return url.set(drivername=driver)


def check_workers(url: URL, *, workers: int) -> None:
    """Check that not several processes are to write one SQLite database.

    Raises:
        SetupError: They are.
    """
    if workers <= 1 or url.get_backend_name() != "sqlite":
        return
    found = sqlite3.sqlite_version_info
    reason = (
        f"SQLite {sqlite3.sqlite_version} can corrupt a WAL database that several processes write"
        if found <= _LAST_SQLITE_WITH_WAL_BUG
        else "SQLite lets one process write at a time"
    )
    raise SetupError(f"{reason}, and {workers} workers were asked for: use PostgreSQL, or one worker")


def open_engine(url: URL) -> Engine:
    """Return an engine for ``url``; nothing is connected yet.

    Args:
        url: From :func:`database_url`. The folder of a SQLite file is created.
    """
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, json_serializer=to_json, pool_size=20, max_overflow=20)
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        json_serializer=to_json,
        pool_size=20,
        max_overflow=20,
        connect_args={"check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transaction handling begins too late and never IMMEDIATE: switch it off.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
    finally:
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get(BEGIN_OPTION, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")
