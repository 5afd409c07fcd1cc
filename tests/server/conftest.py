"""What the server's tests stand on: real databases, a clock that obeys, and a running control plane."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest

from edgeml_client.testing import FakeClock
from edgeml_server import EmbeddedServer
from edgeml_server.db import Database
from edgeml_server.db.migrate import upgrade
from edgeml_server.db.schema import METADATA

_POSTGRES = "host=127.0.0.1 port=5432 dbname=test user=postgres connect_timeout=2"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("EDGEML_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A schema of its own on the machine's PostgreSQL, dropped afterwards."""
    with postgres_schema() as url:
        yield url


@contextmanager
def postgres_schema() -> Iterator[str]:
    schema = f"edgeml_{uuid.uuid4().hex}"
    try:
        connection = psycopg.connect(_POSTGRES, autocommit=True)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL server on 127.0.0.1:5432: {error}")
    with connection:
        connection.execute(f'CREATE SCHEMA "{schema}"')
        try:
            options = quote(f"-csearch_path={schema} -csynchronous_commit=off")
            yield f"postgresql://postgres@127.0.0.1:5432/test?options={options}"
        finally:
            connection.execute(f'DROP SCHEMA "{schema}" CASCADE')


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database once."""
    return str(request.param)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, once of each kind."""
    if database_kind == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'control-plane.db'}"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy: migrating takes longer than most tests."""
    file = tmp_path_factory.mktemp("migrated") / "control-plane.db"
    database = Database(f"sqlite:///{file}")
    upgrade(database)
    database.close()
    return file


@pytest.fixture(scope="session")
def migrated_postgres() -> Iterator[str]:
    """A migrated schema to empty before each test: making tables takes longer than most tests."""
    with postgres_schema() as url:
        database = Database(url)
        upgrade(database)
        database.close()
        yield url


@pytest.fixture
def database(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated database without rows, once of each kind."""
    if database_kind == "postgres":
        opened = Database(request.getfixturevalue("migrated_postgres"))
        with opened.engine.begin() as connection:
            for table in reversed(METADATA.sorted_tables):
                connection.execute(table.delete())
    else:
        file = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "control-plane.db")
        opened = Database(f"sqlite:///{file}")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when told to."""
    return FakeClock()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A running control plane, shared by the tests of a module: each has an organization of its own."""
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def org() -> str:
    """An organization nobody else has."""
    return f"org-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def http(server: EmbeddedServer) -> Iterator[httpx.Client]:
    """A client without a token."""
    with httpx.Client(base_url=server.api_base) as client:
        yield client


@pytest.fixture
def operator(server: EmbeddedServer, org: str) -> Iterator[httpx.Client]:
    """A client with the operator token of ``org``."""
    token = server.create_operator_token(org_id=org)
    with httpx.Client(base_url=server.api_base, headers=bearer(token)) as client:
        yield client


@pytest.fixture
def enrol(server: EmbeddedServer, org: str) -> Iterator[Callable[..., httpx.Client]]:
    """A function that enrols and registers a device of ``org``, and returns a client with its token."""
    clients: list[httpx.Client] = []

    def enrolled(device_identifier: str = "mri-3", **claims: object) -> httpx.Client:
        client = httpx.Client(base_url=server.api_base)
        clients.append(client)
        token = server.create_bootstrap_token(org_id=org)
        body = {"org_id": org, "device_identifier": device_identifier, **claims}
        answer = client.post("/device-auth/bootstrap", json=body, headers=bearer(token))
        assert answer.status_code == 200, answer.text
        client.headers.update(bearer(answer.json()["access_token"]))
        return client

    yield enrolled
    for client in clients:
        client.close()


def bearer(token: str) -> dict[str, str]:
    """The header that presents a token."""
    return {"Authorization": f"Bearer {token}"}
