"""What the tests of coded updates start from."""

from __future__ import annotations

import pytest

from edgeml_client.schemas import UpdateHeader
from tests.envelopes import envelope


@pytest.fixture(scope="session")
def header() -> UpdateHeader:
    return envelope()
