"""The largest numbers are found exactly, however they lie and however often they are equal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding import count_to_keep, select_largest
from edgeml_client.updates.coding.spec import CHUNK_LENGTH

Float32Array = npt.NDArray[np.float32]

few_magnitudes = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-45, 3e38])
vectors = hnp.arrays(
    np.float32, st.integers(0, 40), elements=st.one_of(few_magnitudes, st.floats(-9, 9, width=32))
)


def by_sorting(values: Float32Array, count: int) -> npt.NDArray[np.int64]:
    """The definition: sort by magnitude, equals by position, take the first, drop zeros."""
    order = np.argsort(-np.abs(values), kind="stable")[:count]
    return np.sort(order[values[order] != 0])


def selected_from(values: Float32Array, count: int) -> npt.NDArray[np.int64]:
    """Return the positions in the whole vector, after a look at the values that come with them."""
    selected = list(select_largest(DeltaVector.of({"w": values}), count=count))
    assert len(selected) == -(-values.size // CHUNK_LENGTH)
    parts = [chunk.positions.astype(np.int64) + CHUNK_LENGTH * n for n, chunk in enumerate(selected)]
    positions = np.concatenate([np.empty(0, np.int64), *parts])
    numbers = np.concatenate([np.empty(0, np.float32), *(chunk.values for chunk in selected)])
    np.testing.assert_array_equal(numbers, values[positions])
    return positions


@settings(max_examples=300, deadline=None)
@given(vectors, st.integers(0, 50))
def test_a_selection_is_what_a_stable_sort_gives(values: Float32Array, count: int) -> None:
    np.testing.assert_array_equal(selected_from(values, count), by_sorting(values, count))


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.99])
def test_a_long_vector_is_sampled_and_the_selection_is_still_exact(fraction: float) -> None:
    """Two chunks and a bit, rounded so that many magnitudes are equal."""
    generator = np.random.default_rng(3)
    values = np.round(generator.standard_normal(2 * CHUNK_LENGTH + 777, dtype=np.float32), 2)
    count = count_to_keep(values.size, fraction)

    np.testing.assert_array_equal(selected_from(values, count), by_sorting(values, count))


def test_a_sample_that_misleads_costs_time_and_not_exactness() -> None:
    """The sample sees the first 1,024 of each 65,536 numbers: here it sees the large ones and no others."""
    values = np.full(1 << 18, 0.25, np.float32)
    values.reshape(-1, 1 << 16)[:, :1024] = 8.0
    values[5] = 0.125

    count = 10_000  # 4 * 1,024 large ones, less the one at 5, and the first 5,905 of the others

    np.testing.assert_array_equal(selected_from(values, count), by_sorting(values, count))


def test_a_vector_of_zeros_selects_nothing() -> None:
    assert selected_from(np.zeros(300_000, np.float32), 30_000).size == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [1, 100_000, 200_000])
def test_what_is_not_finite_stops_the_selection(bad: float, count: int) -> None:
    values = np.ones(200_000, np.float32)
    values[123_456] = bad

    with pytest.raises(InvalidUpdateError, match="NaN or Inf"):
        selected_from(values, count)


def test_the_count_is_the_fraction_rounded_up_and_never_none() -> None:
    assert [
        count_to_keep(30, 0.1),
        count_to_keep(31, 0.1),
        count_to_keep(3, 0.01),
        count_to_keep(7, 1.0),
    ] == [
        3,
        4,
        1,
        7,
    ]
    assert count_to_keep(0, 0.1) == 0
