"""A control plane for the tests of this package, and an organization on it for each test."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edgeml_server import EmbeddedServer
    from tests.lightning.federation import Federation


@pytest.fixture(scope="session")
def control_plane() -> Iterator[EmbeddedServer]:
    from edgeml_server import EmbeddedServer  # noqa: PLC0415 - only for the tests that use it

    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def federation(
    control_plane: EmbeddedServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Federation]:
    from tests.lightning.federation import Federation  # noqa: PLC0415 - as above

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    organization = re.sub(r"[^a-z0-9]+", "-", request.node.nodeid.lower())[-60:].strip("-")
    running = Federation(control_plane, tmp_path / "devices", org_id=organization)
    yield running
    running.close()
