"""Time, passed in: the one module that reads the machine's clocks and sleeps."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What code that depends on time asks for."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards, from an arbitrary origin."""
        ...

    def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` seconds."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> datetime:
        """Return the wall-clock time, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this module wraps it

    def monotonic_s(self) -> float:
        """Return seconds that never go backwards, from an arbitrary origin."""
        return time.monotonic()

    def sleep(self, duration_s: float) -> None:
        """Return after ``duration_s`` seconds."""
        time.sleep(duration_s)  # noqa: TID251 - this module wraps it
