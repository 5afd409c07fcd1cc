from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client._transport.retry import (
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    LONGEST_RETRY_AFTER_S,
    BackOff,
    delay_before_retry_s,
    retry_after_s,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@given(failures=st.integers(1, 10_000), seed=st.integers())
def test_the_wait_is_fully_jittered_below_a_doubling_ceiling(failures: int, seed: int) -> None:
    delay_s = delay_before_retry_s(failures, retry_after_s=None, rng=random.Random(seed))

    assert delay_s is not None
    assert 0 <= delay_s <= min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(failures - 1, 30))


@given(wanted_s=st.floats(0, LONGEST_RETRY_AFTER_S), seed=st.integers())
def test_the_wait_is_never_shorter_than_the_server_asked_for(wanted_s: float, seed: int) -> None:
    delay_s = delay_before_retry_s(1, retry_after_s=wanted_s, rng=random.Random(seed))

    assert delay_s is not None
    assert wanted_s <= delay_s <= wanted_s + FIRST_DELAY_S


def test_devices_told_the_same_time_do_not_come_back_together() -> None:
    delays = {delay_before_retry_s(1, retry_after_s=5, rng=random.Random(seed)) for seed in range(50)}

    assert len(delays) == 50


def test_a_wait_of_minutes_is_left_to_the_caller() -> None:
    assert delay_before_retry_s(1, retry_after_s=61, rng=random.Random(0)) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Tue, 01 Jan 2030 00:00:30 GMT", 30.0),
        ("Tue, 01 Jan 2030 00:00:30 +0000", 30.0),
        ("Mon, 31 Dec 2029 00:00:00 GMT", 0.0),
        ("Tue, 01 Jan 2030 00:00:30 -0000", None),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, now=NOW) == seconds


def test_a_date_is_counted_from_now() -> None:
    assert retry_after_s("Tue, 01 Jan 2030 00:01:00 GMT", now=NOW + timedelta(seconds=45)) == 15.0


@pytest.mark.parametrize("error", [ValueError(), httpx.UnsupportedProtocol(""), httpx.LocalProtocolError("")])
def test_our_own_mistakes_are_not_repeated(error: Exception) -> None:
    assert BackOff(max_attempts=9)(error) is False


def test_failures_are_counted_up_to_the_last_try() -> None:
    back_off = BackOff(max_attempts=3)

    verdicts = [back_off(httpx.ConnectTimeout("")) for _ in range(3)]

    assert [verdict is False for verdict in verdicts] == [False, False, True]
