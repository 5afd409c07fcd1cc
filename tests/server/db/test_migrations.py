"""The migrations and the models agree."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from edgeml_server.db import Database
from edgeml_server.db.migrate import current_revision, downgrade, newest_revision, upgrade
from edgeml_server.db.schema import METADATA


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of its own, to migrate up and down."""
    opened = Database(database_url)
    upgrade(opened)
    yield opened
    opened.close()


def test_a_migrated_database_has_exactly_the_tables_of_the_code(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, METADATA)

    assert differences == []
    assert current_revision(database) == newest_revision()


def test_migrating_again_changes_nothing(database: Database) -> None:
    assert upgrade(database) == newest_revision()


def test_every_migration_can_be_taken_back(database: Database) -> None:
    downgrade(database, "base")

    assert current_revision(database) is None
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    assert upgrade(database) == newest_revision()


def test_workers_that_start_together_migrate_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    threads = [threading.Thread(target=upgrade, args=(database,)) for database in databases]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [current_revision(database) for database in databases] == [newest_revision()] * 4
    for database in databases:
        database.close()


def test_every_table_but_the_servers_own_key_belongs_to_an_organization() -> None:
    without = {name for name, table in METADATA.tables.items() if "org_id" not in table.columns}

    assert without == {"server_secrets"}
