from __future__ import annotations

from pathlib import Path

import pytest

from edgeml_client import DeviceAuthClient
from edgeml_client.auth import MemoryTokenStore, TokenStore
from edgeml_client.testing import FakeClock, ScriptedServer
from tests.client.auth.rotation import MakeAuth, Rotation


@pytest.fixture
def rotation(server: ScriptedServer) -> Rotation:
    return Rotation(server)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store() -> MemoryTokenStore:
    return MemoryTokenStore()


@pytest.fixture
def make_auth(server: ScriptedServer, clock: FakeClock, store: MemoryTokenStore, tmp_path: Path) -> MakeAuth:
    def make(
        *,
        base_url: str = server.url,
        org_id: str = "clinic-a",
        device_identifier: str = "mri-3",
        token_storage: TokenStore | str = store,
        keyring_username: str | None = None,
        timeout_seconds: float = 10.0,
    ) -> DeviceAuthClient:
        return DeviceAuthClient(
            base_url=base_url,
            org_id=org_id,
            device_identifier=device_identifier,
            token_storage=token_storage,
            keyring_username=keyring_username,
            timeout_seconds=timeout_seconds,
            lock_dir=tmp_path / "locks",
            clock=clock,
        )

    return make


@pytest.fixture
def auth(make_auth: MakeAuth, rotation: Rotation) -> DeviceAuthClient:
    """An enrolled device; its access token is ``access-1`` and lives 900 s."""
    client = make_auth()
    client.bootstrap_sync(bootstrap_bearer_token="good-bootstrap-token")
    return client
