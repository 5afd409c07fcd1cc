"""When a round goes on by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from edgeml_client.schemas import RoundPhase
from edgeml_server.rounds.deadlines import (
    PhaseChange,
    RoundProgress,
    due_change,
    opens_another,
    seconds_until_next,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
BEFORE = NOON - timedelta(seconds=1)


def training(*, num_updates: int, num_selected: int = 4, min_updates: int = 2) -> RoundProgress:
    return RoundProgress(RoundPhase.TRAINING, num_selected, num_updates, min_updates, NOON)


@pytest.mark.parametrize(
    ("num_updates", "now", "due"),
    [
        (0, BEFORE, None),
        (3, BEFORE, None),
        (4, BEFORE, RoundPhase.AGGREGATING),
        (0, NOON, RoundPhase.ABANDONED),
        (1, NOON, RoundPhase.ABANDONED),
        (2, NOON, RoundPhase.AGGREGATING),
        (3, NOON, RoundPhase.AGGREGATING),
    ],
)
def test_training_ends_with_the_last_update_or_at_the_deadline(
    num_updates: int, now: datetime, due: RoundPhase | None
) -> None:
    change = due_change(training(num_updates=num_updates), now=now)

    assert (change.to if change else None) is due


def test_an_abandoned_round_says_how_many_updates_were_missing() -> None:
    assert due_change(training(num_updates=1), now=NOON) == PhaseChange(
        RoundPhase.ABANDONED, reason="the deadline passed with 1 of the 2 updates it needs"
    )


@pytest.mark.parametrize("phase", [phase for phase in RoundPhase if phase is not RoundPhase.TRAINING])
def test_only_training_has_a_deadline(phase: RoundPhase) -> None:
    assert due_change(RoundProgress(phase, 4, 4, 2, NOON), now=NOON) is None


def test_a_training_round_without_a_deadline_waits_for_everyone() -> None:
    assert due_change(RoundProgress(RoundPhase.TRAINING, 4, 3, 2, None), now=NOON) is None


@pytest.mark.parametrize(
    ("round_number", "is_cancelled", "expected"),
    [(1, False, True), (2, False, True), (3, False, False), (1, True, False)],
)
def test_a_series_goes_on_until_its_last_round_or_its_cancellation(
    *, round_number: int, is_cancelled: bool, expected: bool
) -> None:
    assert opens_another(round_number=round_number, num_rounds=3, is_cancelled=is_cancelled) is expected


def test_the_keeper_sleeps_until_the_nearest_deadline_and_never_longer_than_told() -> None:
    later = [NOON + timedelta(seconds=s) for s in (9, 3, 40)]

    assert seconds_until_next(later, now=NOON, at_most_s=30.0) == 3.0
    assert seconds_until_next(later, now=NOON, at_most_s=2.0) == 2.0
    assert seconds_until_next([BEFORE], now=NOON, at_most_s=30.0) == 0.0
    assert seconds_until_next([], now=NOON, at_most_s=30.0) == 30.0
