"""The cohort of a round is a seeded draw over names."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgeml_server.rounds.selection import Candidate, draw_cohort, num_needed


def candidates(number: int, *, id_prefix: str = "id") -> list[Candidate]:
    return [Candidate(f"{id_prefix}-{99 - i}", f"device-{i:02d}") for i in range(number)]


def names(cohort: tuple[Candidate, ...] | None) -> list[str] | None:
    return None if cohort is None else [candidate.device_identifier for candidate in cohort]


def test_no_cohort_is_drawn_while_there_are_too_few_devices() -> None:
    assert draw_cohort(candidates(2), min_updates=3, cohort_size=None, seed=0, round_number=1) is None
    assert draw_cohort(candidates(4), min_updates=3, cohort_size=5, seed=0, round_number=1) is None
    assert num_needed(min_updates=3, cohort_size=5) == 5
    assert num_needed(min_updates=3, cohort_size=None) == 3


def test_without_a_cohort_size_everyone_takes_part_in_the_order_of_their_names() -> None:
    backwards = reversed(candidates(5))

    cohort = draw_cohort(backwards, min_updates=1, cohort_size=None, seed=7, round_number=1)

    assert names(cohort) == [f"device-{i:02d}" for i in range(5)]


@given(seed=st.integers(-(2**63), 2**63), number=st.integers(1, 20), data=st.data())
def test_the_draw_depends_on_names_seed_and_round_number_alone(
    seed: int, number: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, number))
    order = data.draw(st.permutations(candidates(number, id_prefix="other")))

    first = draw_cohort(candidates(number), min_updates=1, cohort_size=size, seed=seed, round_number=3)
    second = draw_cohort(order, min_updates=1, cohort_size=size, seed=seed, round_number=3)

    assert names(first) == names(second)
    assert first is not None
    assert len(set(first)) == size
    assert names(first) == sorted(names(first) or [])


def test_each_round_and_each_seed_draws_anew() -> None:
    cohorts = [
        names(draw_cohort(candidates(20), min_updates=1, cohort_size=5, seed=seed, round_number=number))
        for seed, number in itertools.product((0, 1), (1, 2))
    ]

    assert len({tuple(cohort or ()) for cohort in cohorts}) == 4


def test_every_device_gets_its_turn() -> None:
    """Over 200 rounds of 5 out of 20 each device is expected 50 times; 25 to 75 is six deviations wide."""
    counts = dict.fromkeys((candidate.device_identifier for candidate in candidates(20)), 0)

    for number in range(1, 201):
        for name in (
            names(draw_cohort(candidates(20), min_updates=1, cohort_size=5, seed=0, round_number=number))
            or []
        ):
            counts[name] += 1

    assert all(25 <= count <= 75 for count in counts.values())
