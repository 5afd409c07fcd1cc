"""What becomes of an update that arrives, as a table of facts and verdicts."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime, timedelta

import pytest

from edgeml_client.schemas import RoundPhase
from edgeml_server.rounds.acceptance import (
    MAX_METRICS,
    MAX_SAMPLE_COUNT,
    Acceptance,
    Arrival,
    Refusal,
    judge,
    judge_claims,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
GOOD = Arrival(
    phase=RoundPhase.TRAINING,
    deadline_at=NOON + timedelta(hours=1),
    now=NOON,
    is_in_cohort=True,
    held_digest=None,
    digest="sha256:aa",
    round_base_digest="sha256:base",
    base_digest="sha256:base",
)


def status(arrival: Arrival) -> int:
    verdict = judge(arrival)
    if isinstance(verdict, Acceptance):
        return 200 if verdict.is_duplicate else 201
    assert verdict.code
    assert verdict.detail
    return verdict.status_code


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, 201),
        ({"deadline_at": None}, 201),
        ({"is_in_cohort": False}, 404),
        ({"held_digest": "sha256:aa"}, 200),
        ({"held_digest": "sha256:bb"}, 409),
        ({"phase": RoundPhase.AGGREGATING}, 410),
        ({"phase": RoundPhase.COMPLETED}, 410),
        ({"phase": RoundPhase.ABANDONED}, 410),
        ({"now": NOON + timedelta(hours=1)}, 410),
        ({"base_digest": "sha256:old"}, 412),
    ],
)
def test_each_fact_has_its_status(facts: dict[str, object], expected: int) -> None:
    assert status(dataclasses.replace(GOOD, **facts)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", list(RoundPhase))
def test_the_same_update_again_is_a_success_even_after_the_round_has_ended(phase: RoundPhase) -> None:
    late = dataclasses.replace(GOOD, phase=phase, held_digest=GOOD.digest, now=NOON + timedelta(days=1))

    assert judge(late) == Acceptance(is_duplicate=True)


def test_a_stranger_learns_nothing_about_a_round() -> None:
    """Outside the cohort the answer is the same whatever phase the round is in."""
    verdicts = {
        judge(dataclasses.replace(GOOD, is_in_cohort=False, phase=phase, base_digest=base))
        for phase in RoundPhase
        for base in ("sha256:base", "sha256:old")
    }

    assert len(verdicts) == 1


def test_the_detail_of_a_stale_base_names_both_digests() -> None:
    verdict = judge(dataclasses.replace(GOOD, base_digest="sha256:old"))

    assert isinstance(verdict, Refusal)
    assert "sha256:old" in verdict.detail
    assert "sha256:base" in verdict.detail


@pytest.mark.parametrize("sample_count", [1, 360, MAX_SAMPLE_COUNT])
def test_sensible_claims_pass(sample_count: int) -> None:
    assert judge_claims(sample_count=sample_count, metrics={"loss": 0.25}) is None


@pytest.mark.parametrize(
    ("sample_count", "metrics", "code"),
    [
        (0, {}, "invalid_sample_count"),
        (-3, {}, "invalid_sample_count"),
        (MAX_SAMPLE_COUNT + 1, {}, "invalid_sample_count"),
        (1, {"loss": math.nan}, "metric_not_finite"),
        (1, {"loss": math.inf}, "metric_not_finite"),
        (1, {"x" * 201: 1.0}, "metric_name_too_long"),
        (1, {f"m{i}": 1.0 for i in range(MAX_METRICS + 1)}, "too_many_metrics"),
    ],
)
def test_claims_that_cannot_be_used_are_refused(
    sample_count: int, metrics: dict[str, float], code: str
) -> None:
    verdict = judge_claims(sample_count=sample_count, metrics=metrics)

    assert verdict is not None
    assert (verdict.status_code, verdict.code) == (422, code)
