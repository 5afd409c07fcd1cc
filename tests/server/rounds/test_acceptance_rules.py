"""What becomes of an update that arrives, as a table of facts and verdicts."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from edgeml_client.schemas import RoundPhase
from edgeml_server.errors import ControlPlaneError, InvalidContentError
from edgeml_server.rounds.acceptance import (
    MAX_METRICS,
    MAX_SAMPLE_COUNT,
    Arrival,
    Verdict,
    check_admission,
    check_claims,
    judge,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD = Arrival(
    phase=RoundPhase.TRAINING,
    deadline_at=NOON + timedelta(hours=1),
    now=NOON,
    is_in_cohort=True,
    held_digest=None,
    round_base_digest="sha256:base",
)


def status(arrival: Arrival, *, base_digest: str = "sha256:base") -> int:
    try:
        verdict = judge(arrival, digest="sha256:aa", base_digest=base_digest)
    except ControlPlaneError as refusal:
        return refusal.status_code
    return {Verdict.ACCEPTED: 201, Verdict.DUPLICATE: 200}[verdict]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, 201),
        ({"deadline_at": None}, 201),
        ({"is_in_cohort": False}, 404),
        ({"held_digest": "sha256:aa"}, 200),
        ({"held_digest": "sha256:bb"}, 409),
        ({"held_digest": "sha256:bb", "phase": RoundPhase.COMPLETED}, 409),
        ({"phase": RoundPhase.AGGREGATING}, 410),
        ({"phase": RoundPhase.COMPLETED}, 410),
        ({"phase": RoundPhase.ABANDONED}, 410),
        ({"now": NOON + timedelta(hours=1)}, 410),
    ],
)
def test_each_fact_has_its_status(facts: dict[str, Any], expected: int) -> None:
    assert status(dataclasses.replace(GOOD, **facts)) == expected


@pytest.mark.parametrize("phase", list(RoundPhase))
def test_the_same_update_again_is_a_success_even_after_the_round_has_ended(phase: RoundPhase) -> None:
    late = dataclasses.replace(GOOD, phase=phase, held_digest="sha256:aa", now=NOON + timedelta(days=1))

    assert status(late) == 200


def test_a_stranger_learns_nothing_about_a_round() -> None:
    """Outside the cohort the answer is the same whatever phase the round is in."""
    said: set[str] = set()
    for phase in RoundPhase:
        with pytest.raises(ControlPlaneError) as refused:
            check_admission(dataclasses.replace(GOOD, is_in_cohort=False, phase=phase))
        said.add(refused.value.detail)

    assert len(said) == 1


def test_a_stale_base_is_refused_with_both_digests() -> None:
    assert status(GOOD, base_digest="sha256:old") == 412
    with pytest.raises(ControlPlaneError, match=r"sha256:old.*sha256:base"):
        judge(GOOD, digest="sha256:aa", base_digest="sha256:old")


def test_a_closed_round_is_refused_before_the_body_is_read_unless_it_may_be_a_repetition() -> None:
    closed = dataclasses.replace(GOOD, phase=RoundPhase.COMPLETED)

    with pytest.raises(ControlPlaneError, match="no longer takes updates"):
        check_admission(closed)
    check_admission(dataclasses.replace(closed, held_digest="sha256:aa"))


@pytest.mark.parametrize("sample_count", [1, 360, MAX_SAMPLE_COUNT])
def test_sensible_claims_pass(sample_count: int) -> None:
    check_claims(sample_count=sample_count, metrics={"loss": 0.25})


@pytest.mark.parametrize(
    ("sample_count", "metrics", "sentence"),
    [
        (0, {}, "sample_count is 0"),
        (-3, {}, "sample_count is -3"),
        (MAX_SAMPLE_COUNT + 1, {}, "sample_count is 2147483649"),
        (1, {"loss": math.nan}, "'loss' is nan"),
        (1, {"loss": math.inf}, "'loss' is inf"),
        (1, {"x" * 201: 1.0}, "longer than 200"),
        (1, {f"m{i}": 1.0 for i in range(MAX_METRICS + 1)}, "257 metrics were sent, at most 256"),
    ],
)
def test_claims_that_cannot_be_used_are_refused(
    sample_count: int, metrics: dict[str, float], sentence: str
) -> None:
    with pytest.raises(InvalidContentError, match=sentence):
        check_claims(sample_count=sample_count, metrics=metrics)
