"""What the tests of coded updates start from."""

from __future__ import annotations

import pytest

from edgeml_client.schemas import UpdateHeader


@pytest.fixture(scope="session")
def header() -> UpdateHeader:
    return UpdateHeader(
        round_id="r-1",
        model_id="m-1",
        base_version="7",
        base_digest="sha256:00",
        device_id="d-1",
        sample_count=12,
    )
