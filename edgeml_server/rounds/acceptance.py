"""What becomes of an update that arrives: accepted, known already, or refused with a reason.

The rules look at facts only; whoever applies the verdict makes it hold with one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from edgeml_client.schemas import RoundPhase
from edgeml_server.errors import (
    AbsentError,
    ContradictionError,
    InvalidContentError,
    RoundEndedError,
    WrongBaseError,
)

__all__ = [
    "MAX_METRICS",
    "MAX_METRIC_NAME_LENGTH",
    "MAX_SAMPLE_COUNT",
    "Arrival",
    "Verdict",
    "check_admission",
    "check_claims",
    "check_metrics",
    "judge",
]

MAX_SAMPLE_COUNT: Final = 2**31
"""A device that claims more samples than this is mistaken, or tries to outweigh all others."""

MAX_METRICS: Final = 256
MAX_METRIC_NAME_LENGTH: Final = 200


class Verdict(StrEnum):
    """Both are successes: the update counts, and the device may forget it."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known when an update arrives.

    Attributes:
        phase: The phase its round is in.
        deadline_at: When the round's training ends.
        now: When the update arrived.
        is_in_cohort: Whether this device was chosen for the round.
        held_digest: The digest of this device's update that is held already, if one is.
        round_base_digest: The digest of the global model that the round started from.
    """

    phase: RoundPhase
    deadline_at: datetime | None
    now: datetime
    is_in_cohort: bool
    held_digest: str | None
    round_base_digest: str

    @property
    def is_closed(self) -> bool:
        """Whether the round takes no updates any more."""
        is_late = self.deadline_at is not None and self.now >= self.deadline_at
        return self.phase is not RoundPhase.TRAINING or is_late


def check_admission(arrival: Arrival) -> None:
    """Return if it makes sense to read the body of an update at all.

    Raises:
        AbsentError: The device was not chosen for the round.
        RoundEndedError: The round is closed, and nothing of this device is held that could be repeated.
    """
    if not arrival.is_in_cohort:
        raise AbsentError("this device has no such round; ask for its assignment again")
    if arrival.held_digest is None and arrival.is_closed:
        raise RoundEndedError(
            f"the round no longer takes updates (it is {arrival.phase}, or past its deadline); "
            "ask for the next assignment"
        )


def judge(arrival: Arrival, *, digest: str, base_digest: str) -> Verdict:
    """Return the verdict on an update.

    The very same update again is a success whatever happened to the round since: its first answer was
    lost on the way, and the device must be able to stop retrying.

    Args:
        arrival: What is known about the round and the device.
        digest: The digest of what arrived.
        base_digest: The digest that the update says it was computed against.

    Raises:
        AbsentError: The device was not chosen for the round.
        ContradictionError: Another update of this device is held.
        RoundEndedError: The round takes no updates any more.
        WrongBaseError: It was computed against another version.
    """
    check_admission(arrival)
    if arrival.held_digest == digest:
        return Verdict.DUPLICATE
    if arrival.held_digest is not None:
        raise ContradictionError(
            "this device has already sent a different update for this round, and that one counts; "
            "wait for the next round"
        )
    if base_digest != arrival.round_base_digest:
        raise WrongBaseError(
            f"the update was computed against {base_digest}, but this round starts from "
            f"{arrival.round_base_digest}; download the round's version and train again"
        )
    return Verdict.ACCEPTED


def check_claims(*, sample_count: int, metrics: Mapping[str, float]) -> None:
    """Return if the figures that a device reports can be used.

    Raises:
        InvalidContentError: They cannot.
    """
    if not 1 <= sample_count <= MAX_SAMPLE_COUNT:
        raise InvalidContentError(
            f"sample_count is {sample_count}, but an update must stand for 1 to {MAX_SAMPLE_COUNT} samples"
        )
    check_metrics(metrics)


def check_metrics(metrics: Mapping[str, float]) -> None:
    """Return if the metrics that a device reports can be kept.

    Raises:
        InvalidContentError: They are too many, too long by name, or not finite.
    """
    if len(metrics) > MAX_METRICS:
        raise InvalidContentError(f"{len(metrics)} metrics were sent, at most {MAX_METRICS} are kept")
    for name, value in metrics.items():
        if len(name) > MAX_METRIC_NAME_LENGTH:
            raise InvalidContentError(
                f"the metric name {name[:40]!r}... is longer than {MAX_METRIC_NAME_LENGTH} characters"
            )
        if not math.isfinite(value):
            raise InvalidContentError(f"the metric {name!r} is {value}; leave out what is not finite")
