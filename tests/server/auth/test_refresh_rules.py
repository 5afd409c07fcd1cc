"""What becomes of a refresh token that is presented."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from edgeml_server.auth.rules import FamilyFacts, RefreshVerdict, judge_refresh

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
GRACE_S = 30

FAMILY = FamilyFacts(
    id="fam-1",
    org_id="clinic-a",
    device_identifier="mri-3",
    bootstrap_token_id="bt-1",
    scopes=("devices:write",),
    access_ttl_s=900,
    created_at=NOW - timedelta(days=1),
    generation=5,
    rotated_at=NOW,
    refresh_expires_at=NOW + timedelta(days=30),
    revoked_at=None,
)


def judge(presented: int, family: FamilyFacts = FAMILY, *, later_s: float = 0) -> RefreshVerdict:
    return judge_refresh(presented, family, now=NOW + timedelta(seconds=later_s), grace_s=GRACE_S)


def test_the_current_token_rotates() -> None:
    assert judge(5) is RefreshVerdict.ROTATE


def test_the_current_token_does_not_outlive_its_term() -> None:
    assert judge(5, replace(FAMILY, refresh_expires_at=NOW)) is RefreshVerdict.REFUSE


@pytest.mark.parametrize(
    ("later_s", "verdict"),
    [(0, RefreshVerdict.REPEAT), (30, RefreshVerdict.REPEAT), (31, RefreshVerdict.REVOKE)],
)
def test_the_token_before_it_is_answered_again_for_the_grace_only(
    later_s: float, verdict: RefreshVerdict
) -> None:
    assert judge(4, later_s=later_s) is verdict


@pytest.mark.parametrize("presented", [1, 2, 3])
def test_anything_older_was_copied_and_revokes_the_family(presented: int) -> None:
    assert judge(presented) is RefreshVerdict.REVOKE


@pytest.mark.parametrize("presented", [5, 4, 3])
def test_nothing_of_a_revoked_family_is_good(presented: int) -> None:
    assert judge(presented, replace(FAMILY, revoked_at=NOW)) is RefreshVerdict.REFUSE
