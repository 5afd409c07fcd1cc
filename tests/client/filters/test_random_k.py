"""random-k keeps the same numbers on every device of a round, and other ones in the next round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from edgeml_client.filters import SparsificationFilter
from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding import count_to_keep, select_random
from tests.client.filters.arrays_strategy import as_vector, deltas


def _kept(delta: Any, random_k: float, seed: int = 7) -> Any:
    return apply_filters(delta, [{"type": "sparsification", "random_k": random_k, "seed": seed}])


@given(delta=deltas(), random_k=st.floats(0.01, 1.0), seed=st.integers(0, 2**53 - 1))
def test_what_stays_is_unchanged_and_no_more_than_asked_for(delta: Any, random_k: float, seed: int) -> None:
    """Not scaled by n / k: so the norm never grows."""
    before, after = as_vector(delta), as_vector(_kept(delta, random_k, seed).delta)

    assert np.array_equal(after[after != 0], before[after != 0])
    assert np.count_nonzero(after) <= count_to_keep(before.size, random_k)
    assert np.linalg.norm(after) <= np.linalg.norm(before)


def test_devices_with_the_same_seed_keep_the_same_positions_whatever_their_numbers() -> None:
    rng = np.random.default_rng(0)
    one = {"a": rng.standard_normal(50), "b": rng.standard_normal((10, 5))}
    two = {name: torch.from_numpy(rng.standard_normal(array.shape)) for name, array in one.items()}

    first, second, other = _kept(one, 0.1), _kept(two, 0.1), _kept(one, 0.1, seed=8)

    kept = np.flatnonzero(as_vector(first.delta))
    assert kept.size == 10
    assert kept.tolist() == np.flatnonzero(as_vector(second.delta)).tolist()
    assert kept.tolist() != np.flatnonzero(as_vector(other.delta)).tolist()


def test_each_round_keeps_others_so_that_every_number_gets_its_turn() -> None:
    """A number is left out of 200 rounds at 10 % with probability 0.9**200 = 7e-10."""
    step = SparsificationFilter(random_k=0.1, seed=7)
    vector = DeltaVector.of({"w": np.ones(1000, np.float32)})

    def kept(number: int) -> np.ndarray:
        return next(step.for_round(f"round-{number}").select(vector)).positions

    rounds = [kept(number) for number in range(200)]

    assert np.unique(np.concatenate(rounds)).size == 1000
    assert kept(3).tolist() == rounds[3].tolist()


def test_all_numbers_are_as_likely_as_each_other() -> None:
    """Of 4,000 rounds a number is in 0.25: 1,000 times, with a deviation of sqrt(4000 * 0.25 * 0.75) = 27."""
    hits = np.zeros(40, np.int64)
    for seed in range(4000):
        hits[select_random(40, count=10, seed=seed)[0]] += 1

    assert hits.sum() == 40_000
    assert np.abs(hits - 1000).max() < 5 * 27


@pytest.mark.parametrize(
    ("size", "count"), [(0, 0), (1, 1), (5, 0), (5, 5), (2**20, 3), (2**21 + 5, 100_001)]
)
def test_the_count_is_exact_and_chunks_get_their_share(size: int, count: int) -> None:
    chunks = select_random(size, count=count, seed=1, round_id="r")

    assert sum(chunk.size for chunk in chunks) == count
    for number, chunk in enumerate(chunks):
        span = min(2**20, size - number * 2**20)
        assert (np.diff(chunk) > 0).all()
        assert chunk.size == 0 or (chunk[0] >= 0 and chunk[-1] < span)
        assert abs(chunk.size - count * span / size) < 1


def test_the_choice_is_fixed_for_all_time() -> None:
    """A golden value: devices of different versions in one round must agree."""
    assert select_random(1000, count=5, seed=42, round_id="r-1")[0].tolist() == [264, 311, 433, 623, 746]
