"""What one process learns, all know; what one cannot do, none does."""

from __future__ import annotations

from typing import Any

import pytest

from edgeml_lightning.distributed import LocalRanks
from tests.lightning.distributed.launch import run_ranks, values_of
from tests.lightning.distributed.ranks_scenarios import lose_the_second, talk

Heard = list[dict[str, Any]]


@pytest.fixture(scope="module")
def heard() -> Heard:
    """Return what each of two processes heard."""
    return values_of(talk, timeout_s=60)


def each(heard: Heard, key: str) -> list[Any]:
    return [one[key] for one in heard]


def test_the_first_process_works_and_all_have_the_result(heard: Heard) -> None:
    assert each(heard, "is_first") == [True, False]
    assert each(heard, "on_first") == [("done in", 0)] * 2


def test_what_all_do_stays_with_each(heard: Heard) -> None:
    assert each(heard, "on_every") == [("done in", 0), ("done in", 1)]
    assert each(heard, "gather") == [[0, 10]] * 2


def test_work_may_outlast_the_timeout(heard: Heard) -> None:
    """5 s of work where a process waits 2 s for a sign of life; without heartbeats the second gives up."""
    assert each(heard, "long work") == [False, False]


def test_an_error_of_the_first_process_is_raised_in_all_at_once(heard: Heard) -> None:
    first, second = each(heard, "first fails")

    assert first[:2] == second[:2] == ("LookupError", "process 0 cannot")
    assert abs(first[2] - second[2]) < 2


def test_an_error_of_another_process_is_raised_in_all_at_once(heard: Heard) -> None:
    first, second = each(heard, "second fails")

    assert first[:2] == second[:2] == ("LookupError", "process 1 cannot")
    assert abs(first[2] - second[2]) < 2


def test_an_interrupt_ends_the_others_with_an_error_that_says_so(heard: Heard) -> None:
    first, second = each(heard, "first is interrupted")

    assert first[0] == "KeyboardInterrupt"
    assert second[:2] == ("FederationError", "process 0 ended with KeyboardInterrupt: ")


def test_gradients_become_their_mean(heard: Heard) -> None:
    """(1 + 2) / 2 and (3 + 6) / 2; (0 + 4) / 2 where one process has none; none stays none."""
    assert each(heard, "gradients") == [[[1.5, 4.5], [2.0], None]] * 2


def test_buffers_become_those_of_the_first(heard: Heard) -> None:
    assert each(heard, "buffers") == [5.0, 5.0]


def test_the_first_process_s_arrays_are_loaded_in_all(heard: Heard) -> None:
    assert each(heard, "loaded") == [[1.0, 2.0]] * 2
    assert [kind for kind, _, _ in each(heard, "misfit")] == ["ModelMismatchError"] * 2


def test_a_process_that_ends_is_missed() -> None:
    """Not for the 30 minutes that torch waits by default: when the first one has done its work."""
    first, second = run_ranks(lose_the_second, timeout_s=60)

    assert first.value[0] == "ProcessLostError"
    assert "nothing more is uploaded" in first.value[1]
    assert isinstance(second.error, EOFError)


def test_alone_everything_is_done_here() -> None:
    ranks = LocalRanks()

    assert (ranks.is_first, ranks.on_first(lambda: 1), ranks.on_every(lambda: 2)) == (True, 1, 2)
    assert ranks.gather(3) == [3]
