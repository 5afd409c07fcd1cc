"""Each database is opened as it needs to be."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from edgeml_server.db import Database
from edgeml_server.db.engine import check_workers, database_url
from edgeml_server.errors import SetupError


def test_sqlite_is_durable_checks_references_and_waits_for_a_lock(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new folder' / 'x.db'}")

    with database.snapshot() as session:
        found = {
            name: session.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    database.close()


def test_a_write_on_sqlite_takes_the_lock_when_it_begins(tmp_path: Path) -> None:
    """BEGIN IMMEDIATE: otherwise two units of work could both read, and the second to write would fail."""
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    rival = sqlite3.connect(tmp_path / "x.db", timeout=0, isolation_level=None)

    with database.unit_of_work() as work:
        work.session.execute(text("SELECT 1"))
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            rival.execute("BEGIN IMMEDIATE")

    rival.close()
    database.close()


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_is_spoken_through_psycopg(scheme: str) -> None:
    assert database_url(f"{scheme}://user@host/database").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://host/database", "use sqlite:/// or postgresql://"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
    ],
)
def test_an_address_that_cannot_work_says_what_to_write_instead(url: str, remedy: str) -> None:
    with pytest.raises(SetupError, match=remedy):
        database_url(url)


def test_a_password_in_the_address_is_not_shown_when_it_cannot_be_used() -> None:
    with pytest.raises(SetupError) as caught:
        database_url("mysql://user:hunter2@host/database")

    assert "hunter2" not in str(caught.value)


def test_several_workers_need_postgresql() -> None:
    for url, workers in [("sqlite:///x.db", 1), ("postgresql://host/database", 8)]:
        check_workers(database_url(url), workers=workers)

    with pytest.raises(SetupError, match="2 workers were asked for: use PostgreSQL, or one worker"):
        check_workers(database_url("sqlite:///x.db"), workers=2)
