"""The published SDK against our control plane, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import keyring
import keyring.backend
import psycopg
import pytest
from psycopg import sql
from typing_extensions import override

from edgeml_server import EmbeddedServer
from edgeml_server.db import new_id

_POSTGRES = "host=127.0.0.1 port=5432 dbname=test user=postgres connect_timeout=2"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that forgets everything at the end: the machine of a test has none."""

    priority = 1.0  # type: ignore[assignment]  # keyring declares a property

    def __init__(self) -> None:
        super().__init__()
        self._passwords: dict[tuple[str, str], str] = {}

    @override
    def get_password(self, service: str, username: str) -> str | None:
        return self._passwords.get((service, username))

    @override
    def set_password(self, service: str, username: str, password: str) -> None:
        self._passwords[service, username] = password

    @override
    def delete_password(self, service: str, username: str) -> None:
        del self._passwords[service, username]


@pytest.fixture(autouse=True)
def memory_keyring() -> Iterator[MemoryKeyring]:
    before = keyring.get_keyring()
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'control-plane.db'}"
        return
    schema = new_id("edgeml")
    try:
        admin = psycopg.connect(_POSTGRES, autocommit=True)
    except psycopg.OperationalError as exc:
        pytest.skip(f"no PostgreSQL server on 127.0.0.1:5432: {exc}")
    with admin:
        admin.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        try:
            options = quote(f"-csearch_path={schema}")
            yield f"postgresql://postgres@127.0.0.1:5432/test?options={options}"
        finally:
            admin.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path / "data", database_url=database_url) as running:
        yield running
