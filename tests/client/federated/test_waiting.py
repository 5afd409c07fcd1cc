"""Waiting asks seldom, ends in time, and lets the control plane hold answers back where it can."""

import random

import pytest

from edgeml_client.errors import ConfigurationError
from edgeml_client.rounds.waiting import poll_until
from edgeml_client.testing import FakeClock


class _Plane:
    """Finds something from a moment on; long polls take as long as they are allowed to."""

    def __init__(self, clock: FakeClock, *, ready_after_s: float, holds: bool = False) -> None:
        self.asked_s: list[float] = []
        self._clock, self._holds = clock, holds
        self._start_s = clock.monotonic_s()
        self._ready_after_s = ready_after_s

    def ask(self, held_s: float) -> str | None:
        elapsed_s = self._clock.monotonic_s() - self._start_s
        self.asked_s.append(elapsed_s)
        if self._holds:
            pause_s = min(held_s, max(0.0, self._ready_after_s - elapsed_s))
            self._clock.sleep(pause_s)
            elapsed_s += pause_s
        return "found" if elapsed_s >= self._ready_after_s else None


def _wait(plane: _Plane, clock: FakeClock, *, wait_s: float, can_long_poll: bool = False) -> str | None:
    return poll_until(
        plane.ask, wait_s=wait_s, can_long_poll=can_long_poll, clock=clock, rng=random.Random(0)
    )


@pytest.mark.parametrize("wait_s", [-1.0, float("nan")])
def test_a_wait_that_is_no_duration_is_refused(wait_s: float) -> None:
    """NaN compares false with everything, so it would never end."""
    clock = FakeClock()
    plane = _Plane(clock, ready_after_s=1)

    with pytest.raises(ConfigurationError, match="0 or more, not"):
        _wait(plane, clock, wait_s=wait_s)

    assert plane.asked_s == []


def test_waiting_no_time_asks_once() -> None:
    clock = FakeClock()
    plane = _Plane(clock, ready_after_s=1)

    assert _wait(plane, clock, wait_s=0) is None
    assert plane.asked_s == [0]


def test_what_is_there_is_found_at_once() -> None:
    clock = FakeClock()

    assert _wait(_Plane(clock, ready_after_s=0), clock, wait_s=60) == "found"
    assert clock.monotonic_s() == FakeClock().monotonic_s()


def test_polls_grow_apart_and_stay_within_fifteen_seconds() -> None:
    clock = FakeClock()
    plane = _Plane(clock, ready_after_s=120)

    assert _wait(plane, clock, wait_s=600) == "found"

    pauses_s = [later - earlier for earlier, later in zip(plane.asked_s, plane.asked_s[1:], strict=False)]
    assert pauses_s[0] <= 0.5
    assert max(pauses_s) <= 15
    assert pauses_s[-1] >= 7.5
    assert len(plane.asked_s) < 30


def test_it_ends_in_time_after_one_last_look() -> None:
    clock = FakeClock()
    plane = _Plane(clock, ready_after_s=1e9)

    assert _wait(plane, clock, wait_s=30) is None
    assert plane.asked_s[-1] == pytest.approx(30)


def test_long_polls_follow_each_other_without_a_pause() -> None:
    """45 s in polls of at most 20 s: asked at 0, 20 and 40, found at 45."""
    clock = FakeClock()
    plane = _Plane(clock, ready_after_s=45, holds=True)

    assert _wait(plane, clock, wait_s=600, can_long_poll=True) == "found"
    assert plane.asked_s == [0, 20, 40]


def test_a_control_plane_that_answers_long_polls_at_once_is_not_flooded() -> None:
    clock = FakeClock()
    plane = _Plane(clock, ready_after_s=1e9)

    assert _wait(plane, clock, wait_s=60, can_long_poll=True) is None
    assert len(plane.asked_s) < 20
