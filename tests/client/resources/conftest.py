from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeml_client import EdgeML
from edgeml_client.testing import ScriptedServer


@pytest.fixture
def edge(server: ScriptedServer) -> Iterator[EdgeML]:
    with EdgeML(lambda: "the-token", org_id="clinic-a", api_base=server.api_base) as made:
        yield made
