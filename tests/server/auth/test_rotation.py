"""Refresh tokens rotate; a lost answer costs nothing, a copied token ends the family."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from edgeml_client.schemas import TokenResponse
from edgeml_client.testing import FakeClock
from edgeml_server.auth.service import Refusal, TokenPolicy, refresh
from edgeml_server.auth.tables import AccessTokenRow, RefreshTokenRow, TokenFamilyRow
from edgeml_server.auth.tokens import TokenKind, draw_token
from edgeml_server.db import Database

Refresh = Callable[[SecretStr], TokenResponse | Refusal]


@pytest.fixture
def first(
    new_bootstrap_token: Callable[..., str], enrol_with: Callable[[str], TokenResponse]
) -> TokenResponse:
    return enrol_with(new_bootstrap_token())


def granted(answer: TokenResponse | Refusal) -> TokenResponse:
    assert isinstance(answer, TokenResponse), answer
    return answer


def test_each_refresh_answers_another_pair(first: TokenResponse, refresh_with: Refresh) -> None:
    second = granted(refresh_with(first.refresh_token))
    third = granted(refresh_with(second.refresh_token))

    assert len({answer.refresh_token.get_secret_value() for answer in (first, second, third)}) == 3
    assert len({answer.access_token.get_secret_value() for answer in (first, second, third)}) == 3


def test_a_lost_answer_is_given_again_word_for_word(
    first: TokenResponse, refresh_with: Refresh, clock: FakeClock
) -> None:
    second = granted(refresh_with(first.refresh_token))
    clock.advance(30)

    assert granted(refresh_with(first.refresh_token)) == second


def test_the_grace_ends_when_the_successor_is_used(first: TokenResponse, refresh_with: Refresh) -> None:
    second = granted(refresh_with(first.refresh_token))
    third = granted(refresh_with(second.refresh_token))

    assert isinstance(refresh_with(first.refresh_token), Refusal)
    assert isinstance(refresh_with(third.refresh_token), Refusal), (
        "the thief's tokens ended with the device's"
    )


def test_after_the_grace_a_replaced_token_ends_the_family(
    first: TokenResponse, refresh_with: Refresh, clock: FakeClock
) -> None:
    second = granted(refresh_with(first.refresh_token))
    clock.advance(31)

    refusal = refresh_with(first.refresh_token)

    assert isinstance(refusal, Refusal)
    assert "enrol it again" in refusal.detail
    assert isinstance(refresh_with(second.refresh_token), Refusal)


@pytest.mark.parametrize("text", ["", "nonsense", draw_token(TokenKind.REFRESH).text])
def test_a_token_nobody_issued_is_refused_and_harms_nobody(
    text: str, first: TokenResponse, refresh_with: Refresh
) -> None:
    assert isinstance(refresh_with(SecretStr(text)), Refusal)
    assert isinstance(refresh_with(first.refresh_token), TokenResponse)


def test_a_token_with_the_right_id_and_a_wrong_secret_is_refused_and_harms_nobody(
    first: TokenResponse, refresh_with: Refresh
) -> None:
    """Ids are not secret: whoever knows one must not be able to end a family with it."""
    second = granted(refresh_with(first.refresh_token))
    forged = first.refresh_token.get_secret_value()[:-64] + "0" * 64

    assert isinstance(refresh_with(SecretStr(forged)), Refusal)
    assert isinstance(refresh_with(second.refresh_token), TokenResponse)


def test_an_access_token_does_not_refresh(first: TokenResponse, refresh_with: Refresh) -> None:
    assert isinstance(refresh_with(first.access_token), Refusal)


def test_thirty_days_without_a_refresh_end_the_enrolment(
    first: TokenResponse, refresh_with: Refresh, clock: FakeClock
) -> None:
    clock.advance(30 * 24 * 3600)

    assert isinstance(refresh_with(first.refresh_token), Refusal)


def test_a_changed_key_refuses_the_repetition_instead_of_answering_tokens_that_do_not_exist(
    first: TokenResponse, refresh_with: Refresh, database: Database, clock: FakeClock
) -> None:
    refresh_with(first.refresh_token)
    changed = TokenPolicy(access_ttl_s=900, refresh_ttl_s=3600, grace_s=30, key=b"another")

    with database.unit_of_work() as work:
        answer = refresh(work, first.refresh_token, policy=changed, now=clock.now())

    assert isinstance(answer, Refusal)


def test_what_is_held_does_not_grow_for_ever(
    first: TokenResponse, clock: FakeClock, database: Database
) -> None:
    """Expired access tokens go at each rotation, refresh tokens after so many generations."""
    policy = TokenPolicy(access_ttl_s=900, refresh_ttl_s=3600, grace_s=30, key=b"k", remembered_generations=3)
    answer = first
    for _ in range(7):
        clock.advance(901)
        with database.unit_of_work() as work:
            answer = granted(refresh(work, answer.refresh_token, policy=policy, now=clock.now()))

    with database.snapshot() as session:
        num_access = session.scalar(select(func.count()).select_from(AccessTokenRow))
        num_refresh = session.scalar(select(func.count()).select_from(RefreshTokenRow))
        generation = session.scalar(select(TokenFamilyRow.generation))
    assert (num_access, num_refresh, generation) == (1, 3 + 1, 1 + 7)


def test_nothing_that_is_held_can_be_used_as_a_token(
    first: TokenResponse, refresh_with: Refresh, database: Database
) -> None:
    second = granted(refresh_with(first.refresh_token))

    with database.snapshot() as session:
        held = session.execute(select(RefreshTokenRow.id, RefreshTokenRow.secret_sha256)).all()

    secret = second.refresh_token.get_secret_value().rsplit("_", 1)[1]
    assert secret not in str(held)
    for token_id, digest in held:
        assert isinstance(refresh_with(SecretStr(f"edgeml_rt_{token_id}_{digest}")), Refusal)
