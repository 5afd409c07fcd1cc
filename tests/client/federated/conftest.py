"""A control plane on a real socket that answers as told, and a device that talks to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeml_client import FederatedClient
from edgeml_client.testing import ScriptedServer
from tests.client.federated.scripted_plane import ScriptedPlane


@pytest.fixture
def plane() -> Iterator[ScriptedPlane]:
    with ScriptedServer() as server:
        yield ScriptedPlane(server)


@pytest.fixture
def client(plane: ScriptedPlane, tmp_path: Path) -> Iterator[FederatedClient]:
    with plane.client(tmp_path / "state") as device:
        yield device
