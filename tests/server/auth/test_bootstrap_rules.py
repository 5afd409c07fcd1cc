"""Who is enrolled with a bootstrap token."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from edgeml_client.schemas import BootstrapRequest
from edgeml_server.auth.rules import BootstrapFacts, Enrolment, FamilyFacts, judge_bootstrap
from edgeml_server.errors import (
    AbsentError,
    ContradictionError,
    ControlPlaneError,
    ForbiddenError,
    UnauthenticatedError,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
GRACE_S = 30

TOKEN = BootstrapFacts(
    id="bt-1",
    org_id="clinic-a",
    secret_sha256="",
    scopes=("devices:write", "models:write"),
    device_identifier=None,
    single_use=True,
    expires_at=NOW + HOUR,
    used_at=None,
    revoked_at=None,
)
BOUND = replace(TOKEN, device_identifier="mri-3")
USED = replace(TOKEN, used_at=NOW)
FAMILY = FamilyFacts(
    id="fam-1",
    org_id="clinic-a",
    device_identifier="mri-3",
    bootstrap_token_id="bt-0",
    scopes=("devices:write",),
    access_ttl_s=900,
    created_at=NOW - HOUR,
    generation=1,
    rotated_at=NOW - HOUR,
    refresh_expires_at=NOW + 24 * HOUR,
    revoked_at=None,
)
JUST_ENROLLED = replace(FAMILY, bootstrap_token_id="bt-1", created_at=NOW)


def judge(
    token: BootstrapFacts,
    *,
    live: FamilyFacts | None = None,
    org_id: str = "clinic-a",
    device_identifier: str = "mri-3",
    scopes: tuple[str, ...] = ("devices:write",),
    now: datetime = NOW,
) -> Enrolment:
    request = BootstrapRequest(org_id=org_id, device_identifier=device_identifier, scopes=scopes)
    return judge_bootstrap(token, request, live=live, now=now, grace_s=GRACE_S)


def test_a_fresh_token_enrols_a_new_device_and_is_used_up() -> None:
    assert judge(TOKEN) == Enrolment(scopes=("devices:write",), replaces=None, claims=True)


def test_a_reusable_token_is_not_used_up() -> None:
    assert not judge(replace(TOKEN, single_use=False, used_at=None)).claims


def test_naming_no_scope_grants_all_the_token_has() -> None:
    assert judge(TOKEN, scopes=()).scopes == TOKEN.scopes


@pytest.mark.parametrize(
    ("token", "request_of", "error", "remedy"),
    [
        (TOKEN, {"org_id": "clinic-b"}, AbsentError, "no organization 'clinic-b' for this token"),
        (replace(TOKEN, revoked_at=NOW), {}, UnauthenticatedError, "revoked; ask an operator"),
        (BOUND, {"device_identifier": "mri-4"}, ForbiddenError, "bound to another device"),
        (TOKEN, {"scopes": ("devices:write", "rounds:write")}, ForbiddenError, "does not grant rounds:write"),
        (USED, {}, UnauthenticatedError, "used already"),
        (TOKEN, {"now": NOW + HOUR}, UnauthenticatedError, "expired"),
        (TOKEN, {"live": FAMILY}, ContradictionError, "bound to its device_identifier"),
    ],
)
def test_a_refusal_says_what_to_do(
    token: BootstrapFacts, request_of: dict[str, object], error: type[ControlPlaneError], remedy: str
) -> None:
    with pytest.raises(error, match=remedy):
        judge(token, **request_of)  # type: ignore[arg-type]  # one keyword of judge each


def test_a_token_bound_to_the_device_enrols_it_again_and_ends_its_old_tokens() -> None:
    assert judge(BOUND, live=FAMILY).replaces == "fam-1"


def test_tokens_that_have_expired_do_not_stand_in_the_way() -> None:
    expired = replace(FAMILY, refresh_expires_at=NOW)

    assert judge(TOKEN, live=expired).replaces == "fam-1"


class TestALostAnswer:
    """The device may repeat the call for a short while; its first tokens are then replaced."""

    def test_is_given_again_within_the_grace(self) -> None:
        again = judge(USED, live=JUST_ENROLLED, now=NOW + timedelta(seconds=GRACE_S))

        assert again == Enrolment(scopes=("devices:write",), replaces="fam-1", claims=False)

    def test_is_not_given_again_after_the_grace(self) -> None:
        with pytest.raises(UnauthenticatedError, match="used already"):
            judge(USED, live=JUST_ENROLLED, now=NOW + timedelta(seconds=GRACE_S + 1))

    def test_is_not_given_to_another_device(self) -> None:
        with pytest.raises(UnauthenticatedError, match="used already"):
            judge(USED, live=None, device_identifier="mri-4")

    def test_is_not_lost_if_the_device_has_refreshed_since(self) -> None:
        with pytest.raises(UnauthenticatedError, match="used already"):
            judge(USED, live=replace(JUST_ENROLLED, generation=2))
