"""stochastic_sign sends one of two values for each number, and is right in expectation."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from tests.client.filters.arrays_strategy import deltas

SIGN = {"type": "stochastic_sign"}


@given(delta=deltas(), seed=st.integers(0, 1000))
def test_each_number_becomes_plus_or_minus_the_largest_of_its_array_and_zero_stays(
    delta: Any, seed: int
) -> None:
    signed = apply_filters(delta, [SIGN], generator=np.random.default_rng(seed))

    for name, array in delta.items():
        largest = np.abs(array).max(initial=0)
        assert np.array_equal(np.abs(signed[name]), np.where(array == 0, 0, largest))
        assert np.array_equal(signed[name][np.abs(array) == largest], array[np.abs(array) == largest])


def test_the_mean_is_right() -> None:
    """With b = 2 and x = 0.5: P(+2) = (2 + 0.5) / 4 = 0.625, the mean 0.625 * 2 - 0.375 * 2 = 0.5.

    The variance of one is b**2 - x**2 = 3.75, so the mean of n = 100,000 has the deviation 0.00612.
    """
    delta = {"w": np.array([2.0] + [0.5] * 100_000)}

    signed = apply_filters(delta, [SIGN], generator=np.random.default_rng(0))["w"]

    assert np.unique(signed).tolist() == [-2, 2]
    assert abs(signed[1:].mean(dtype=np.float64) - 0.5) < 5 * 0.00612
    assert abs(signed[1:].var(dtype=np.float64) - 3.75) < 0.05


def test_a_bound_is_the_same_for_all_arrays_and_numbers_beyond_it_are_sent_as_the_bound() -> None:
    delta = {"a": np.array([5.0, -5.0, 0.0]), "b": np.array([1e-9, 0.0])}

    signed = apply_filters(delta, [{**SIGN, "bound": 2.0}])

    assert signed["a"].tolist() == [2, -2, 0]
    assert np.abs(signed["b"]).tolist() == [2, 0]


def test_a_variance_is_left_alone() -> None:
    delta = {"bn.running_var": np.array([-0.5, 0.25]), "bn.weight": np.array([-0.5, 0.25])}

    signed = apply_filters(delta, [SIGN])

    assert signed["bn.running_var"].tolist() == [-0.5, 0.25]
    assert np.abs(signed["bn.weight"]).tolist() == [0.5, 0.5]


def test_what_sparsification_and_exclude_dropped_stays_dropped() -> None:
    delta = {"head": np.ones(4), "w": np.arange(1.0, 9.0)}
    filters = [{"type": "exclude", "names": ["head"]}, {"type": "sparsification", "top_k": 0.25}, SIGN]

    signed = apply_filters(delta, filters)

    assert not signed["head"].any()
    assert np.flatnonzero(signed["w"]).tolist() == [5, 6, 7]
