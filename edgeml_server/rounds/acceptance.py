"""What becomes of an update that arrives: accepted, known already, or refused with a reason.

The rules look at facts only; whoever applies the verdict makes it hold with one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edgeml_client.schemas import RoundPhase

__all__ = [
    "MAX_METRICS",
    "MAX_METRIC_NAME_LENGTH",
    "MAX_SAMPLE_COUNT",
    "Acceptance",
    "Arrival",
    "Refusal",
    "judge",
    "judge_claims",
]

MAX_SAMPLE_COUNT: Final = 2**31
"""A device that claims more samples than this is mistaken, or tries to outweigh all others."""

MAX_METRICS: Final = 256
MAX_METRIC_NAME_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The update counts; ``is_duplicate`` says that it had been counted before."""

    is_duplicate: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """The update does not count.

    Attributes:
        status_code: The HTTP status that says so.
        code: The reason for programs.
        detail: The reason for people, with what to do.
    """

    status_code: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known when an update arrives.

    Attributes:
        phase: The phase its round is in.
        deadline_at: When the round's training ends.
        now: When the update arrived.
        is_in_cohort: Whether this device was chosen for the round.
        held_digest: The digest of this device's update that is held already, if one is.
        digest: The digest of what arrived.
        round_base_digest: The digest of the global model that the round started from.
        base_digest: The digest that the update says it was computed against.
    """

    phase: RoundPhase
    deadline_at: datetime | None
    now: datetime
    is_in_cohort: bool
    held_digest: str | None
    digest: str
    round_base_digest: str
    base_digest: str


def judge(arrival: Arrival) -> Acceptance | Refusal:
    """Return the verdict on an update.

    The very same update again is a success whatever happened to the round since: its first answer was
    lost on the way, and the device must be able to stop retrying.
    """
    if not arrival.is_in_cohort:
        return Refusal(404, "round_not_found", "this device has no such round; ask for its assignment again")
    if arrival.held_digest == arrival.digest:
        return Acceptance(is_duplicate=True)
    if arrival.held_digest is not None:
        return Refusal(
            409,
            "other_update_held",
            "this device has already sent a different update for this round, and that one counts; "
            "wait for the next round",
        )
    if _is_closed(arrival):
        return Refusal(
            410,
            "round_closed",
            f"the round no longer takes updates (it is {arrival.phase}); ask for the next assignment",
        )
    if arrival.base_digest != arrival.round_base_digest:
        return Refusal(
            412,
            "stale_base",
            f"the update was computed against {arrival.base_digest}, but this round starts from "
            f"{arrival.round_base_digest}; download the round's version and train again",
        )
    return Acceptance(is_duplicate=False)


def _is_closed(arrival: Arrival) -> bool:
    is_late = arrival.deadline_at is not None and arrival.now >= arrival.deadline_at
    return arrival.phase is not RoundPhase.TRAINING or is_late


def judge_claims(*, sample_count: int, metrics: Mapping[str, float]) -> Refusal | None:
    """Return why the figures that a device reports cannot be used, or ``None`` when they can."""
    if not 1 <= sample_count <= MAX_SAMPLE_COUNT:
        return Refusal(
            422,
            "invalid_sample_count",
            f"sample_count is {sample_count}, but an update must stand for 1 to {MAX_SAMPLE_COUNT} samples",
        )
    if len(metrics) > MAX_METRICS:
        return Refusal(
            422, "too_many_metrics", f"{len(metrics)} metrics were sent, at most {MAX_METRICS} are kept"
        )
    for name, value in metrics.items():
        if len(name) > MAX_METRIC_NAME_LENGTH:
            return Refusal(
                422,
                "metric_name_too_long",
                f"the metric name {name[:40]!r}... is longer than {MAX_METRIC_NAME_LENGTH} characters",
            )
        if not math.isfinite(value):
            return Refusal(
                422, "metric_not_finite", f"the metric {name!r} is {value}; leave out what is not finite"
            )
    return None
