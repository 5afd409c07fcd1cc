"""A round moves through its phases by one table."""

from __future__ import annotations

import itertools

import pytest

from edgeml_client.schemas import RoundPhase
from edgeml_server.rounds.phases import (
    ACTIVE_PHASES,
    ENDED_PHASES,
    NEXT_PHASES,
    IllegalPhaseChangeError,
    advance,
)


def test_the_straight_way_through_a_round_is_allowed() -> None:
    way = [RoundPhase.SELECTING, RoundPhase.TRAINING, RoundPhase.AGGREGATING, RoundPhase.COMPLETED]

    assert [advance(now, then) for now, then in itertools.pairwise(way)] == way[1:]


@pytest.mark.parametrize("phase", sorted(ACTIVE_PHASES))
def test_every_round_that_has_not_ended_may_be_abandoned(phase: RoundPhase) -> None:
    assert advance(phase, RoundPhase.ABANDONED) is RoundPhase.ABANDONED


@pytest.mark.parametrize("ended", sorted(ENDED_PHASES))
@pytest.mark.parametrize("wanted", list(RoundPhase))
def test_nothing_follows_a_round_that_has_ended(ended: RoundPhase, wanted: RoundPhase) -> None:
    with pytest.raises(IllegalPhaseChangeError, match="nothing, it has ended") as caught:
        advance(ended, wanted)

    assert (caught.value.current, caught.value.wanted) == (ended, wanted)


def test_no_phase_can_be_skipped_or_repeated() -> None:
    allowed = {(now, then) for now, following in NEXT_PHASES.items() for then in following}

    for now in RoundPhase:
        for then in RoundPhase:
            if (now, then) not in allowed:
                with pytest.raises(IllegalPhaseChangeError, match="cannot become"):
                    advance(now, then)
    assert len(allowed) == 6


def test_every_phase_is_either_active_or_ended() -> None:
    assert set(RoundPhase) == ACTIVE_PHASES | ENDED_PHASES
    assert not ACTIVE_PHASES & ENDED_PHASES
