"""Device tokens against a real control plane: enrolment, rotation, and many processes at once."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import stamina

from edgeml_client import DeviceAuthClient
from edgeml_client._transport.http import HttpTransport
from edgeml_client.auth import FileTokenStore, MemoryTokenStore
from edgeml_client.errors import AuthError, ConflictError, NotEnrolledError, NotFoundError, UnauthorizedError
from edgeml_client.schemas import ModelPage
from edgeml_client.testing import Exchange, FakeClock, Reply, ScriptedServer
from edgeml_server import EmbeddedServer


@pytest.fixture(scope="module")
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="module")
def plane(clock: FakeClock) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(clock=clock) as server:
        yield server


@pytest.fixture
def device(plane: EmbeddedServer, clock: FakeClock, request: pytest.FixtureRequest) -> DeviceAuthClient:
    """A device that is named after the test, and not enrolled yet."""
    return DeviceAuthClient(
        base_url=plane.url,
        org_id="clinic-a",
        device_identifier=request.node.name,
        token_storage=MemoryTokenStore(),
        clock=clock,
    )


def list_models(plane: EmbeddedServer, provider: Callable[[], str]) -> ModelPage:
    transport = HttpTransport(api_base=plane.api_base, auth_token_provider=provider)
    try:
        return transport.call("GET", "/models", ModelPage, params={"org_id": "clinic-a"})
    finally:
        transport.close()


def test_an_enrolled_device_may_call_for_as_long_as_it_likes(
    plane: EmbeddedServer, device: DeviceAuthClient, clock: FakeClock
) -> None:
    device.bootstrap_sync(bootstrap_bearer_token=plane.create_bootstrap_token(org_id="clinic-a"))

    tokens = set()
    for _ in range(4):
        list_models(plane, device.get_access_token_sync)
        tokens.add(device.get_access_token_sync())
        clock.advance(16 * 60)

    assert len(tokens) == 4


def test_a_revoked_device_must_enrol_again(plane: EmbeddedServer, device: DeviceAuthClient) -> None:
    state = device.bootstrap_sync(bootstrap_bearer_token=plane.create_bootstrap_token(org_id="clinic-a"))

    device.revoke_sync()

    with pytest.raises(UnauthorizedError):
        list_models(plane, state.access_token.get_secret_value)
    with pytest.raises(NotEnrolledError, match="bootstrap"):
        device.get_access_token_sync()


@pytest.mark.parametrize("problem", ["unknown", "used", "expired"])
def test_a_bootstrap_token_that_is_no_good_says_why(
    plane: EmbeddedServer, device: DeviceAuthClient, clock: FakeClock, problem: str
) -> None:
    token = plane.create_bootstrap_token(org_id="clinic-a", ttl_s=60)
    if problem == "unknown":
        token += "x"
    elif problem == "used":
        DeviceAuthClient(
            base_url=plane.url,
            org_id="clinic-a",
            device_identifier="the-first",
            token_storage=MemoryTokenStore(),
        ).bootstrap_sync(bootstrap_bearer_token=token)
    else:
        clock.advance(61)

    with pytest.raises(AuthError, match="ask the operator for a new one") as refused:
        device.bootstrap_sync(bootstrap_bearer_token=token)

    assert token not in str(refused.value)


def test_a_token_of_another_organization_finds_nothing(
    plane: EmbeddedServer, device: DeviceAuthClient
) -> None:
    with pytest.raises(NotFoundError, match="organization"):
        device.bootstrap_sync(bootstrap_bearer_token=plane.create_bootstrap_token(org_id="clinic-b"))


def test_a_device_that_lost_its_tokens_needs_a_token_bound_to_it(
    plane: EmbeddedServer, device: DeviceAuthClient, clock: FakeClock
) -> None:
    device.bootstrap_sync(bootstrap_bearer_token=plane.create_bootstrap_token(org_id="clinic-a"))
    device.clear_token_state()
    clock.advance(60)
    bound = plane.create_bootstrap_token(org_id="clinic-a", device_identifier=device.device_identifier)

    with pytest.raises(ConflictError, match="enrolled already"):
        device.bootstrap_sync(bootstrap_bearer_token=plane.create_bootstrap_token(org_id="clinic-a"))
    device.bootstrap_sync(bootstrap_bearer_token=bound)

    list_models(plane, device.get_access_token_sync)


class LossyWay:
    """Stands between devices and a control plane, and loses every tenth answer."""

    def __init__(self, server: ScriptedServer, client: httpx.Client) -> None:
        self.client = client
        self.num_refreshes = 0
        self._rng = random.Random(0)
        self._lock = threading.Lock()
        for call in ("bootstrap", "refresh"):
            server.on("POST", f"/device-auth/{call}", self.relay)

    def relay(self, exchange: Exchange) -> Reply:
        with self._lock:
            is_lost = self._rng.random() < 0.1
            self.num_refreshes += exchange.path.endswith("refresh")
        kept = {"authorization", "content-type"}
        headers = {name: value for name, value in exchange.headers.items() if name in kept}
        answer = self.client.post(exchange.path, content=exchange.body, headers=headers)
        return Reply(status=answer.status_code, body=answer.content, drop=is_lost)


WORKER = """
import os, sys
from pathlib import Path
from edgeml_client import DeviceAuthClient
from edgeml_client.auth import FileTokenStore

url, folder, num_refreshes, crash_at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

class CrashingStore(FileTokenStore):
    num_saves = 0
    def save(self, user, text):
        self.num_saves += 1
        if self.num_saves == crash_at:
            os._exit(70)  # the control plane has rotated, and nobody has kept the new token
        super().save(user, text)

auth = DeviceAuthClient(base_url=url, org_id="clinic-a", device_identifier="shared",
                        token_storage=CrashingStore(folder / "tokens"), lock_dir=folder / "locks")
for _ in range(num_refreshes):
    auth.refresh_sync()
"""


def test_processes_that_share_a_device_never_lose_its_enrolment(tmp_path: Path) -> None:
    """Four processes, six refreshes each, lost answers, a crash after the rotation: nobody enrols again."""
    with (
        EmbeddedServer() as plane,
        ScriptedServer() as front,
        httpx.Client(base_url=plane.url, trust_env=False) as client,
        stamina.set_testing(True, attempts=50, cap=True),
    ):
        way = LossyWay(front, client)
        auth = DeviceAuthClient(
            base_url=front.url,
            org_id="clinic-a",
            device_identifier="shared",
            token_storage=FileTokenStore(tmp_path / "tokens"),
            lock_dir=tmp_path / "locks",
        )
        auth.bootstrap_sync(bootstrap_bearer_token=plane.create_bootstrap_token(org_id="clinic-a"))

        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, front.url, str(tmp_path), "6", "3" if number == 0 else "0"],
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        complaints = [worker.communicate()[1] for worker in workers]

        assert [worker.returncode for worker in workers] == [70, 0, 0, 0], complaints
        assert way.num_refreshes >= 3 + 3 * 6
        assert list_models(plane, auth.get_access_token_sync).models == ()
