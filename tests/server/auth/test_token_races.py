"""Whatever happens at the same time, the outcome is one of the orders in which it could have happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pydantic import SecretStr
from sqlalchemy import func, select

from edgeml_client.schemas import TokenResponse
from edgeml_server.auth.service import Refusal
from edgeml_server.auth.tables import TokenFamilyRow
from edgeml_server.db import Database
from edgeml_server.errors import ControlPlaneError

NUM_THREADS = 8
T = TypeVar("T")


def at_once(*actions: Callable[[], T]) -> list[T | ControlPlaneError]:
    outcomes: list[T | ControlPlaneError] = []
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], T]) -> None:
        start.wait()
        try:
            outcomes.append(action())
        except ControlPlaneError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def num_live_families(database: Database) -> int | None:
    with database.snapshot() as session:
        return session.scalar(
            select(func.count()).select_from(TokenFamilyRow).where(TokenFamilyRow.revoked_at.is_(None))
        )


def test_refreshing_one_token_many_times_at_once_answers_one_successor(
    new_bootstrap_token: Callable[..., str],
    enrol_with: Callable[..., TokenResponse],
    refresh_with: Callable[[SecretStr], TokenResponse | Refusal],
) -> None:
    answer: TokenResponse | Refusal = enrol_with(new_bootstrap_token())

    for _ in range(5):
        assert isinstance(answer, TokenResponse)
        outcomes = at_once(*[partial(refresh_with, answer.refresh_token)] * NUM_THREADS)
        assert len(outcomes) == NUM_THREADS
        assert all(outcome == outcomes[0] for outcome in outcomes)
        answer = outcomes[0]  # type: ignore[assignment]  # asserted in the next turn

    assert isinstance(answer, TokenResponse)


def test_many_devices_that_share_a_single_use_token_get_one_enrolment(
    new_bootstrap_token: Callable[..., str], enrol_with: Callable[..., TokenResponse], database: Database
) -> None:
    token = new_bootstrap_token()

    outcomes = at_once(*[partial(enrol_with, token, f"mri-{i}") for i in range(NUM_THREADS)])

    assert sum(isinstance(outcome, TokenResponse) for outcome in outcomes) == 1
    assert num_live_families(database) == 1


def test_many_tokens_used_for_one_device_at_once_enrol_it_once(
    new_bootstrap_token: Callable[..., str], enrol_with: Callable[..., TokenResponse], database: Database
) -> None:
    tokens = [new_bootstrap_token() for _ in range(NUM_THREADS)]

    outcomes = at_once(*[partial(enrol_with, token) for token in tokens])

    assert sum(isinstance(outcome, TokenResponse) for outcome in outcomes) == 1
    assert num_live_families(database) == 1


def test_a_device_that_repeats_its_enrolment_at_once_ends_with_one_family(
    new_bootstrap_token: Callable[..., str],
    enrol_with: Callable[..., TokenResponse],
    refresh_with: Callable[[SecretStr], TokenResponse | Refusal],
    database: Database,
) -> None:
    token = new_bootstrap_token()

    outcomes = at_once(*[partial(enrol_with, token)] * NUM_THREADS)

    answers = [outcome for outcome in outcomes if isinstance(outcome, TokenResponse)]
    assert answers
    assert num_live_families(database) == 1
    good = [answer for answer in answers if isinstance(refresh_with(answer.refresh_token), TokenResponse)]
    assert len(good) == 1
