"""The version that a round produces is named after the one it started from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml_server.rounds.versions import next_version


@pytest.mark.parametrize(
    ("version", "following"),
    [
        ("1", "2"),
        ("9", "10"),
        ("1.0.0", "1.0.1"),
        ("2.0.9", "2.0.10"),
        ("v007", "v008"),
        ("099", "100"),
        ("1.0-beta", "1.1-beta"),
        ("baseline", "baseline.1"),
        ("", ".1"),
    ],
)
def test_the_last_number_goes_up_by_one(version: str, following: str) -> None:
    assert next_version(version) == following


@given(st.text(max_size=20), st.integers(0, 10**9))
def test_versions_of_a_series_never_repeat(prefix: str, start: int) -> None:
    seen = [f"{prefix}{start}"]
    for _ in range(5):
        seen.append(next_version(seen[-1]))

    assert len(set(seen)) == len(seen)
