"""How a test here gets devices: each enrolled with a token of its own, and registered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_server import EmbeddedServer
from tests.e2e.devices import ORG, Enrol


@pytest.fixture
def enrol(server: EmbeddedServer, tmp_path: Path) -> Iterator[Enrol]:
    """Return a function that enrols and registers a device on the module's ``server``."""
    with ExitStack() as open_clients:

        def enrol_one(name: str) -> FederatedClient:
            auth = DeviceAuthClient(
                base_url=server.url, org_id=ORG, device_identifier=name, token_storage="memory"
            )
            auth.bootstrap_sync(bootstrap_bearer_token=server.create_bootstrap_token(org_id=ORG))
            client = FederatedClient(
                auth.get_access_token_sync, ORG, server.api_base, name, state_dir=tmp_path / "state"
            )
            open_clients.enter_context(client)
            client.register()
            return client

        yield enrol_one
