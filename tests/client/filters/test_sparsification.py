"""sparsification keeps exactly the asked number of entries over the whole update."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from edgeml_client.updates.coding import count_to_keep
from tests.client.filters.arrays_strategy import as_vector, deltas


def _sparsify(delta: Any, top_k: float) -> Any:
    return apply_filters(delta, [{"type": "sparsification", "top_k": top_k}])


def test_the_largest_are_chosen_over_all_arrays() -> None:
    delta = {"a": np.array([0.1, -0.2]), "b": np.array([5.0, -6.0])}

    kept = _sparsify(delta, 0.5)

    assert kept["a"].tolist() == [0, 0]
    assert kept["b"].tolist() == [5, -6]


def test_among_equals_the_first_are_kept_and_the_count_is_exact() -> None:
    kept = _sparsify({"b": np.ones(6), "a": -np.ones(4)}, 0.5)

    assert kept["a"].tolist() == [-1, -1, -1, -1]
    assert kept["b"].tolist() == [1, 0, 0, 0, 0, 0]
    assert kept.audit_trail[0].kept_fraction == 0.5


@given(delta=deltas(), top_k=st.floats(0.01, 1.0))
def test_at_most_the_asked_number_is_not_zero_and_none_of_them_is_smaller_than_a_dropped_one(
    delta: Any, top_k: float
) -> None:
    before, after = as_vector(delta), as_vector(_sparsify(delta, top_k).delta)
    asked = count_to_keep(before.size, top_k)
    dropped = (after == 0) & (before != 0)

    assert np.count_nonzero(after) == min(asked, np.count_nonzero(before))
    assert np.array_equal(after[after != 0], before[after != 0])
    if dropped.any() and (after != 0).any():
        assert np.abs(before[dropped]).max() <= np.abs(after[after != 0]).min()


def test_percent_means_the_same_as_the_fraction() -> None:
    delta = {"w": np.arange(40.0)}

    by_percent = apply_filters(delta, [{"type": "sparsification", "top_k_percent": 10}])

    assert by_percent["w"].tolist() == _sparsify(delta, 0.1)["w"].tolist()
    assert by_percent.audit_trail[0].parameters == {"top_k": 0.1}
