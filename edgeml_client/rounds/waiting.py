"""Waiting for the control plane: by its own long polls where it offers them, else by asking now and then."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeVar

from edgeml_client.clock import Clock
from edgeml_client.errors import ConfigurationError

__all__ = ["LONGEST_POLL_S", "check_wait", "poll_until"]

T = TypeVar("T")

LONGEST_POLL_S: Final = 20.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0
_GROWTH: Final = 1.6


def check_wait(wait_s: float, *, name: str = "wait_s") -> None:
    """Check how long somebody wants to wait.

    Raises:
        ConfigurationError: It is negative or not a number.
    """
    if not wait_s >= 0:
        raise ConfigurationError(f"{name} must be a number of seconds, 0 or more, not {wait_s}")


def poll_until(
    ask: Callable[[float], T | None], *, wait_s: float, can_long_poll: bool, clock: Clock, rng: random.Random
) -> T | None:
    """Return what ``ask`` finds, or ``None`` after ``wait_s`` seconds.

    Args:
        ask: Asks once; the control plane may hold the answer back for as many seconds as it is given.
        wait_s: How long to go on; 0 asks once.
        can_long_poll: Whether the control plane holds answers back. If it does not, or an answer comes early
            and empty, pauses grow from half a second to fifteen, each shortened by up to half at random.
        clock: Measures and sleeps.
        rng: Draws the pauses, so that devices do not ask in step.

    Raises:
        ConfigurationError: ``wait_s`` is negative or not a number.
    """
    check_wait(wait_s)
    deadline_s = clock.monotonic_s() + wait_s
    pause_s = _FIRST_PAUSE_S
    while True:
        asked_s = clock.monotonic_s()
        left_s = max(0.0, deadline_s - asked_s)
        held_s = min(left_s, LONGEST_POLL_S) if can_long_poll else 0.0
        found = ask(held_s)
        if found is not None or left_s == 0.0:
            return found
        if held_s and clock.monotonic_s() - asked_s >= held_s / 2:
            continue
        left_s = max(0.0, deadline_s - clock.monotonic_s())
        clock.sleep(min(left_s, pause_s * rng.uniform(0.5, 1.0)))
        pause_s = min(_LONGEST_PAUSE_S, pause_s * _GROWTH)
