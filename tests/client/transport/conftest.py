from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgeml_client._transport.http import HttpTransport
from edgeml_client.testing import FakeClock, ScriptedServer


@pytest.fixture
def transport(server: ScriptedServer) -> Iterator[HttpTransport]:
    made = HttpTransport(
        api_base=server.api_base, auth_token_provider=lambda: "the-token", timeout=10, clock=FakeClock()
    )
    yield made
    made.close()
