from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from edgeml_client import DeviceAuthClient
from edgeml_client._transport.http import HttpTransport
from edgeml_client.auth import MemoryTokenStore
from edgeml_client.errors import ConnectionFailedError, NotEnrolledError
from edgeml_client.schemas import Record
from edgeml_client.testing import Exchange, FakeClock, Reply, ScriptedServer
from tests.client.auth.rotation import MakeAuth, Rotation

REFRESH = "/device-auth/refresh"


def num_refreshes(server: ScriptedServer) -> int:
    return len(server.requests("POST", REFRESH))


def test_a_token_is_kept_until_little_of_it_is_left(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock
) -> None:
    clock.advance(869)
    assert auth.get_access_token_sync() == "access-1"

    clock.advance(1)
    assert auth.get_access_token_sync() == "access-2"
    assert auth.get_access_token_sync() == "access-2"
    assert num_refreshes(server) == 1


def test_how_early_a_token_is_refreshed_is_the_callers_choice(
    auth: DeviceAuthClient, clock: FakeClock
) -> None:
    clock.advance(700)

    assert auth.get_access_token_sync(200) == "access-2"


def test_without_network_a_token_is_used_until_it_expires(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    server.on("POST", REFRESH, Reply(drop=True))
    clock.advance(880)

    assert auth.get_access_token_sync() == "access-1"
    assert "was not refreshed" in caplog.text
    clock.advance(20)
    with pytest.raises(ConnectionFailedError, match="refresh"):
        auth.get_access_token_sync()


def test_a_failed_early_refresh_is_not_repeated_at_once(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock
) -> None:
    server.on("POST", REFRESH, Reply(status=503))
    clock.advance(875)

    auth.get_access_token_sync()
    tries = num_refreshes(server)
    auth.get_access_token_sync()
    assert num_refreshes(server) == tries

    clock.advance(6)
    auth.get_access_token_sync()
    assert num_refreshes(server) > tries


def test_the_network_that_comes_back_is_used(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock, rotation: Rotation
) -> None:
    server.on("POST", REFRESH, Reply(drop=True))
    clock.advance(2_000)
    with pytest.raises(ConnectionFailedError):
        auth.get_access_token_sync()

    server.on("POST", REFRESH, rotation.refresh)

    assert auth.get_access_token_sync() == "access-2"


def test_a_wall_clock_set_back_does_not_revive_a_token(auth: DeviceAuthClient, clock: FakeClock) -> None:
    clock.advance(1_000)
    clock.set_wall_clock(clock.now() - timedelta(days=1))

    assert auth.get_access_token_sync() == "access-2"


def test_a_wall_clock_set_forward_costs_one_refresh(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock
) -> None:
    clock.set_wall_clock(clock.now() + timedelta(days=365))

    assert [auth.get_access_token_sync() for _ in range(3)] == ["access-2"] * 3
    assert num_refreshes(server) == 1


def test_a_token_that_seems_expired_on_arrival_is_used_all_the_same(
    server: ScriptedServer, make_auth: MakeAuth, clock: FakeClock
) -> None:
    """A device whose clock is wrong by a day works, although it refreshes too often."""
    yesterday = (clock.now() - timedelta(days=1)).isoformat().replace("+00:00", "Z")
    tokens = {"access_token": "a", "refresh_token": "r", "expires_at": yesterday}
    identity = {"org_id": "clinic-a", "device_identifier": "mri-3"}
    server.on("POST", "/device-auth/bootstrap", Reply.of_json(tokens | identity))
    auth = make_auth()

    auth.bootstrap_sync(bootstrap_bearer_token="b")

    assert auth.get_access_token_sync() == "a"


def test_a_refused_refresh_asks_for_a_new_enrolment_and_forgets_that_token(
    server: ScriptedServer,
    auth: DeviceAuthClient,
    store: MemoryTokenStore,
    rotation: Rotation,
    clock: FakeClock,
) -> None:
    rotation.current = 77  # revoked on the control plane
    clock.advance(1_000)

    with pytest.raises(NotEnrolledError, match=r"no longer accepts.*not the latest.*new bootstrap token"):
        auth.get_access_token_sync()
    with pytest.raises(NotEnrolledError, match="there is no token"):
        auth.get_access_token_sync()

    assert store.find("clinic-a:mri-3") is None
    assert num_refreshes(server) == 1


def test_the_store_is_read_again_before_every_refresh(
    make_auth: MakeAuth, auth: DeviceAuthClient, clock: FakeClock
) -> None:
    """Another client with the same store has rotated the token meanwhile; nobody has to enrol again."""
    other = make_auth()
    assert other.get_access_token_sync() == "access-2"

    clock.advance(1_000)

    assert auth.get_access_token_sync() == "access-3"
    assert other.get_access_token_sync() == "access-4"


def test_threads_that_need_a_token_at_once_refresh_once(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock
) -> None:
    clock.advance(1_000)
    start = threading.Barrier(8)

    def get(_: int) -> str:
        start.wait()
        return auth.get_access_token_sync()

    with ThreadPoolExecutor(8) as threads:
        tokens = set(threads.map(get, range(8)))

    assert tokens == {"access-2"}
    assert num_refreshes(server) == 1


def test_an_early_refresh_that_somebody_else_made_is_not_made_again(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock
) -> None:
    clock.advance(880)
    old = auth._held
    assert old is not None
    auth.refresh_sync()

    state = auth._refreshed_if_possible(old.state, 30)

    assert state.access_token.get_secret_value() == "access-2"
    assert num_refreshes(server) == 1


def test_while_one_thread_refreshes_early_the_others_go_on(
    server: ScriptedServer, auth: DeviceAuthClient, clock: FakeClock, rotation: Rotation
) -> None:
    arrived, may_answer = threading.Event(), threading.Event()

    def slowly(exchange: Exchange) -> Reply:
        arrived.set()
        may_answer.wait(30)
        return rotation.refresh(exchange)

    server.on("POST", REFRESH, slowly)
    clock.advance(880)

    with ThreadPoolExecutor(1) as threads:
        refreshing = threads.submit(auth.get_access_token_sync)
        arrived.wait(30)
        assert auth.get_access_token_sync() == "access-1"
        may_answer.set()
        assert refreshing.result() == "access-2"


def test_a_token_that_a_call_finds_refused_is_replaced(
    server: ScriptedServer, auth: DeviceAuthClient
) -> None:
    def only_second(exchange: Exchange) -> Reply:
        return Reply() if exchange.headers["authorization"] == "Bearer access-2" else Reply(status=401)

    server.on("GET", "/models", only_second)
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=auth.get_access_token_sync)

    transport.call("GET", "/models", Record)
    transport.close()

    assert num_refreshes(server) == 1


def test_a_refusal_of_an_older_token_does_not_cost_the_newer_one(auth: DeviceAuthClient) -> None:
    auth.refresh_sync()

    auth.report_refused_token("access-1")

    assert auth.get_access_token_sync() == "access-2"
