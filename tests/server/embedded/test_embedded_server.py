"""A control plane in this process starts in one line and leaves nothing behind."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from edgeml_client.clock import SystemClock
from edgeml_server import EmbeddedServer, Settings
from edgeml_server.embedded import _listen
from edgeml_server.errors import SetupError


def test_it_answers_from_the_moment_it_is_made_until_it_is_closed() -> None:
    server = EmbeddedServer()
    alive = httpx.get(f"{server.url}/health")
    server.close()

    assert alive.status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_addresses_are_those_that_clients_take() -> None:
    with EmbeddedServer() as server:
        address = urlsplit(server.url)

        assert (address.scheme, address.hostname) == ("http", "127.0.0.1")
        assert server.api_base == f"{server.url}/api/v1"


def test_answers_leave_at_once_instead_of_waiting_for_an_acknowledgement() -> None:
    """The event loop sets TCP_NODELAY on connections whose listening socket names TCP, and on no others."""
    with ExitStack() as stack:
        assert _listen(stack, "127.0.0.1", 0).proto == socket.IPPROTO_TCP


def test_several_run_side_by_side_and_know_nothing_of_each_other() -> None:
    with EmbeddedServer() as one, EmbeddedServer() as other:
        one.register_model(org_id="clinic-a", name="digits", state={"w": np.zeros(1)})
        token = other.create_operator_token(org_id="clinic-a")

        answer = httpx.get(f"{other.api_base}/models", headers={"Authorization": f"Bearer {token}"})

    assert one.url != other.url
    assert answer.json()["total"] == 0


def test_started_again_and_again_it_leaves_no_thread_socket_folder_or_warning() -> None:
    before = set(threading.enumerate())
    folders = []

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            with EmbeddedServer() as server, httpx.Client(base_url=server.url) as client:
                folders.append(Path(urlsplit(server.plane.settings.blob_url).path).parent)
                assert client.get("/ready").status_code == 200
        gc.collect()

    assert set(threading.enumerate()) == before
    assert [folder.exists() for folder in folders] == [False] * 3


def test_closing_twice_is_fine() -> None:
    server = EmbeddedServer()

    server.close()
    server.close()

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health")


def test_a_client_that_keeps_its_connection_open_does_not_hold_the_server_up() -> None:
    clock = SystemClock()
    server = EmbeddedServer()
    with httpx.Client(base_url=server.url) as client:
        client.get("/health")  # the connection stays in the client's pool

        started_s = clock.monotonic_s()
        server.close()

    assert clock.monotonic_s() - started_s < 5, "closing waited for its grace period"


def test_what_is_kept_in_a_folder_is_there_the_next_time(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "data") as first:
        held = first.register_model(org_id="clinic-a", name="digits", state={"w": np.zeros(1)})
        token = first.create_operator_token(org_id="clinic-a")

    with EmbeddedServer(str(tmp_path / "data")) as second:
        answer = httpx.get(
            f"{second.api_base}/models/{held['model_id']}/versions/1/download",
            headers={"Authorization": f"Bearer {token}"},
        )

    assert answer.headers["ETag"] == f'"{held["checksum"]}"'


def test_a_port_may_be_chosen(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with EmbeddedServer(tmp_path, port=port) as server:
        assert server.url == f"http://127.0.0.1:{port}"


def test_a_port_that_is_taken_is_refused_with_the_way_out_and_leaves_nothing() -> None:
    before = set(threading.enumerate())
    with EmbeddedServer() as server:
        port = urlsplit(server.url).port
        assert port is not None

        with pytest.raises(SetupError, match=f"port {port}.*choose another port"):
            EmbeddedServer(port=port)

    assert set(threading.enumerate()) == before


@pytest.mark.postgres
def test_it_runs_on_postgresql_as_well(postgres_url: str, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, database_url=postgres_url) as server:
        held = server.register_model(org_id="clinic-a", name="digits", state={"w": np.zeros(1)})
        token = server.create_operator_token(org_id="clinic-a")
        answer = httpx.get(
            f"{server.api_base}/models/{held['model_id']}/versions/latest",
            headers={"Authorization": f"Bearer {token}"},
        )

    assert answer.json()["version"] == "1"


@pytest.mark.postgres
def test_text_that_postgresql_cannot_store_is_refused_like_anything_wrong(
    postgres_url: str, tmp_path: Path
) -> None:
    with EmbeddedServer(tmp_path, database_url=postgres_url) as server:
        token = server.create_operator_token(org_id="clinic-a")
        headers = {"Authorization": f"Bearer {token}"}
        nul = httpx.post(
            f"{server.api_base}/models", json={"name": "a", "description": "\x00"}, headers=headers
        )
        absent = httpx.get(f"{server.api_base}/models/%00", headers=headers)

    assert (nul.status_code, nul.json()["code"]) == (422, "invalid_content")
    assert absent.status_code in {404, 422}


def test_settings_are_used_except_for_the_places_that_a_folder_decides(tmp_path: Path) -> None:
    settings = Settings(access_ttl_s=60, database_url="sqlite:////nowhere/x.db")

    with EmbeddedServer(tmp_path, settings=settings) as server:
        assert server.plane.settings.access_ttl_s == 60
        assert str(tmp_path) in server.plane.settings.database_url


def test_the_settings_of_the_environment_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEML_SERVER_ACCESS_TTL_S", "120")

    with EmbeddedServer(tmp_path) as server:
        assert server.plane.settings.access_ttl_s == 120


def test_settings_show_no_secret() -> None:
    settings = Settings(
        secret_key="hunter2",  # type: ignore[arg-type]  # pydantic wraps it
        database_url="postgresql://user:hunter3@host/database",
    )

    assert "hunter" not in repr(settings)
    assert "hunter" not in str(settings)
