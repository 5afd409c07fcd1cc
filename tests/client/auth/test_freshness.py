from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client.auth.freshness import Freshness, Lease, judge, lifetime_s, remaining_s

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("remaining", "verdict"),
    [
        (900.0, Freshness.FRESH),
        (30.1, Freshness.FRESH),
        (30.0, Freshness.AGING),
        (0.1, Freshness.AGING),
        (0.0, Freshness.EXPIRED),
        (-1.0, Freshness.EXPIRED),
    ],
)
def test_a_token_is_refreshed_early_and_never_used_late(remaining: float, verdict: Freshness) -> None:
    assert judge(remaining, refresh_within_s=30) is verdict


@given(st.floats(0, 3_600), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_the_clock_that_leaves_less_decides(lifetime: float, wall_s: float, monotonic_s: float) -> None:
    lease = Lease(lifetime_s=lifetime, asked_at=NOW, asked_monotonic_s=5.0)

    left_s = remaining_s(lease, now=NOW + timedelta(seconds=wall_s), monotonic_s=5.0 + monotonic_s)

    assert left_s == pytest.approx(lifetime - max(wall_s, monotonic_s), abs=1e-3)


@pytest.mark.parametrize(
    ("expires_in", "expires_at_s", "lifetime"),
    [
        (900, None, 900.0),
        (900, 60, 900.0),  # what this machine's clock says does not matter
        (0, None, 0.0),
        (-5, None, 0.0),
        (86_400, None, 3_600.0),  # no access token lives longer
        (None, 900, 900.0),
        (None, 7_200, 3_600.0),  # this machine's clock is slow
        (None, -500, 60.0),  # this machine's clock is fast
        (None, None, 60.0),
    ],
)
def test_how_long_a_new_token_lives(
    expires_in: int | None, expires_at_s: int | None, lifetime: float
) -> None:
    expires_at = None if expires_at_s is None else NOW + timedelta(seconds=expires_at_s)

    assert lifetime_s(expires_in_s=expires_in, expires_at=expires_at, now=NOW) == lifetime
