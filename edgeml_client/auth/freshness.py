"""Whether a token may still be used, and whether to refresh it: values in, a decision out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

__all__ = ["Freshness", "Lease", "judge", "lifetime_s", "remaining_s"]

LONGEST_LIFETIME_S: Final = 3600.0
"""No access token lives longer; a later ``expires_at`` means a clock is wrong."""

SHORTEST_LIFETIME_S: Final = 60.0
"""Assumed of a token that has expired on arrival, by a clock that must therefore be wrong."""


class Freshness(StrEnum):
    """What to do before a token is used."""

    FRESH = "fresh"  # use it
    AGING = "aging"  # refresh it if that works, else use it
    EXPIRED = "expired"  # refresh it, or fail


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """How long a token lives, by both clocks of this machine.

    Attributes:
        lifetime_s: Seconds from the moment it was asked for.
        asked_at: That moment, by the wall clock.
        asked_monotonic_s: That moment, by the monotonic clock.
    """

    lifetime_s: float
    asked_at: datetime
    asked_monotonic_s: float


def lifetime_s(*, expires_in_s: float | None, expires_at: datetime | None, now: datetime) -> float:
    """Return how long a token lives that has just been issued, in seconds.

    ``expires_in_s`` is preferred: it holds whatever this machine's clock says. From ``expires_at``, the
    result is kept between :data:`SHORTEST_LIFETIME_S` and :data:`LONGEST_LIFETIME_S`: a device with a wrong
    clock then refreshes too often, or once too late, instead of never getting to work.
    """
    if expires_in_s is not None:
        return min(max(expires_in_s, 0.0), LONGEST_LIFETIME_S)
    if expires_at is None:
        return SHORTEST_LIFETIME_S
    seconds = (expires_at - now).total_seconds()
    return min(max(seconds, SHORTEST_LIFETIME_S), LONGEST_LIFETIME_S)


def remaining_s(lease: Lease, *, now: datetime, monotonic_s: float) -> float:
    """Return the seconds the token still lives, by the clock that leaves less.

    The wall clock alone would revive an expired token when it is set back; the monotonic clock alone stands
    still while some machines sleep.
    """
    elapsed_s = max(monotonic_s - lease.asked_monotonic_s, (now - lease.asked_at).total_seconds())
    return lease.lifetime_s - elapsed_s


def judge(remaining_s: float, *, refresh_within_s: float) -> Freshness:
    """Return what to do with a token that lives ``remaining_s`` more seconds.

    Args:
        remaining_s: Seconds until its hard expiry.
        refresh_within_s: From when on a refresh is tried, in seconds before the hard expiry.
    """
    if remaining_s <= 0:
        return Freshness.EXPIRED
    return Freshness.AGING if remaining_s <= refresh_within_s else Freshness.FRESH
