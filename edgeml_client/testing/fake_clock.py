"""A clock that moves only when told to."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from typing_extensions import override

from edgeml_client.clock import Clock

__all__ = ["FakeClock"]


class FakeClock(Clock):
    """Time for tests: sleeping takes none, and the wall clock can be set.

    Args:
        start: The wall-clock time to begin with, aware.

    Example:
        >>> clock = FakeClock()
        >>> before = clock.monotonic_s()
        >>> clock.sleep(90)
        >>> clock.monotonic_s() - before
        90.0
    """

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        self._lock = threading.Lock()
        self._now = start
        self._monotonic_s = 1_000.0

    @override
    def now(self) -> datetime:
        """Return the wall-clock time."""
        with self._lock:
            return self._now

    @override
    def monotonic_s(self) -> float:
        """Return the seconds of the monotonic clock."""
        with self._lock:
            return self._monotonic_s

    @override
    def sleep(self, duration_s: float) -> None:
        """Let ``duration_s`` seconds pass at once."""
        self.advance(duration_s)

    def advance(self, duration_s: float) -> None:
        """Let ``duration_s`` seconds pass, on both clocks."""
        with self._lock:
            self._now += timedelta(seconds=duration_s)
            self._monotonic_s += duration_s

    def set_wall_clock(self, now: datetime) -> None:
        """Set the wall clock, as an administrator or NTP does; the monotonic clock does not notice."""
        with self._lock:
            self._now = now
