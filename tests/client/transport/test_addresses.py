from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client._transport.paths import endpoint
from edgeml_client.errors import ConfigurationError


@given(st.text(min_size=1).filter(lambda text: text not in {".", ".."} and text.isprintable()))
def test_a_name_stays_within_its_segment(name: str) -> None:
    path = endpoint("/models/{}/versions", name)

    assert path.count("/") == 3
    assert "?" not in path
    assert "#" not in path


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_would_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be part of an address"):
        endpoint("/models/{}/versions/{}", "m", name)
