"""When a round goes on by itself: everyone answered, or its time is up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from edgeml_client.schemas import RoundPhase

__all__ = ["PhaseChange", "RoundProgress", "due_change", "opens_another", "seconds_until_next"]


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """What the rules need to know about a round.

    Attributes:
        num_selected: Devices in the cohort; 0 before one was drawn.
        num_updates: Updates accepted so far.
        min_updates: The fewest updates with which the round is aggregated.
        deadline_at: When training ends; ``None`` before it began.
    """

    phase: RoundPhase
    num_selected: int
    num_updates: int
    min_updates: int
    deadline_at: datetime | None


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """A change that is due, and for an abandoned round the reason people are told."""

    to: RoundPhase
    reason: str | None = None


def due_change(progress: RoundProgress, *, now: datetime) -> PhaseChange | None:
    """Return the change that is due at ``now``, or ``None``.

    A round that trains is aggregated once the whole cohort answered. At its deadline it is aggregated
    with what has arrived, if that is at least ``min_updates``, and abandoned otherwise. A round that
    selects waits until it has a cohort; a round that aggregates is the keeper's.
    """
    if progress.phase is not RoundPhase.TRAINING:
        return None
    if 0 < progress.num_selected <= progress.num_updates:
        return PhaseChange(RoundPhase.AGGREGATING)
    if progress.deadline_at is None or now < progress.deadline_at:
        return None
    if progress.num_updates >= progress.min_updates:
        return PhaseChange(RoundPhase.AGGREGATING)
    return PhaseChange(
        RoundPhase.ABANDONED,
        reason=f"the deadline passed with {progress.num_updates} of the {progress.min_updates} updates "
        "it needs",
    )


def opens_another(*, round_number: int, num_rounds: int, is_cancelled: bool) -> bool:
    """Return whether another round of the series follows one that has ended."""
    return not is_cancelled and round_number < num_rounds


def seconds_until_next(deadlines: Iterable[datetime], *, now: datetime, at_most_s: float) -> float:
    """Return how long to sleep until the nearest deadline: 0 if one has passed, at most ``at_most_s``."""
    nearest = min(deadlines, default=None)
    if nearest is None:
        return at_most_s
    return min(max((nearest - now).total_seconds(), 0.0), at_most_s)
