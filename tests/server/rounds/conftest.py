"""What the tests of rounds over HTTP stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeml_server import EmbeddedServer
from tests.server.rounds.fleet import Fleet, fleet_on


@pytest.fixture
def fleet(server: EmbeddedServer) -> Iterator[Fleet]:
    """A new organization on the module's control plane, with a model of two arrays and a counter."""
    with fleet_on(server) as made:
        yield made
