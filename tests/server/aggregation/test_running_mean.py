"""The streaming mean: right against float64, the same bits every time, one model in memory."""

from __future__ import annotations

import itertools
import statistics
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding.spec import CHUNK_LENGTH, Chunk
from edgeml_server.aggregation import RunningMean, median_bound, scale_within
from edgeml_server.aggregation.mean import BLOCK_LENGTH, Addend

SHAPES = {"weight": (3, 2), "bias": (3,), "scalar": ()}
Update = tuple[dict[str, np.ndarray], int]

values = st.floats(-1e3, 1e3, width=32)
arrays = st.fixed_dictionaries(
    {name: hnp.arrays(np.float32, shape, elements=values) for name, shape in SHAPES.items()}
)
updates = st.lists(st.tuples(arrays, st.integers(1, 10_000)), min_size=1, max_size=12)


def averaged(given_updates: list[Update]) -> RunningMean:
    mean = RunningMean(SHAPES)
    for arrays_of_one, num_samples in given_updates:
        add(mean, *sent(**arrays_of_one), num_samples=num_samples)
    return mean


def add(
    mean: RunningMean, chunks: list[Chunk], names: tuple[str, ...], *, num_samples: int, scale: float = 1.0
) -> None:
    mean.add_together([Addend(chunks, num_samples, scale)], names)


def sent(**arrays_of_one: np.ndarray) -> tuple[list[Chunk], tuple[str, ...]]:
    """Return an update as its file would give it: chunks of its vector, and the names of its arrays."""
    vector = DeltaVector.of(arrays_of_one)
    edges = itertools.pairwise([*range(0, vector.values.size, CHUNK_LENGTH), vector.values.size])
    chunks = [Chunk(start, stop, None, vector.values[start:stop]) for start, stop in edges]
    return chunks, vector.layout.names


@settings(max_examples=60, deadline=None)
@given(updates)
def test_the_mean_agrees_with_float64(given_updates: list[Update]) -> None:
    r"""Float32 sums of K terms err by at most about :math:`K \cdot 2^{-24}` of the sum of magnitudes."""
    mean = averaged(given_updates)

    total = sum(num_samples for _, num_samples in given_updates)
    for name, shape in SHAPES.items():
        terms = [arrays[name].astype(np.float64) * n for arrays, n in given_updates]
        expected = np.sum(terms, axis=0) / total
        bound = (len(terms) + 3) * 2.0**-24 * np.sum(np.abs(terms), axis=0) / total + 1e-30
        actual = mean.mean(name)
        assert actual.dtype == np.float32
        assert actual.shape == shape
        assert np.all(np.abs(actual - expected) <= bound)


@settings(max_examples=30, deadline=None)
@given(updates)
def test_the_same_updates_in_the_same_order_give_the_same_bits(given_updates: list[Update]) -> None:
    first, second = averaged(given_updates), averaged(given_updates)

    for name in SHAPES:
        assert first.mean(name).tobytes() == second.mean(name).tobytes()


@settings(max_examples=30, deadline=None)
@given(arrays, st.integers(1, 10_000))
def test_one_update_is_its_own_mean(arrays_of_one: dict[str, np.ndarray], num_samples: int) -> None:
    mean = averaged([(arrays_of_one, num_samples)])

    for name, array in arrays_of_one.items():
        np.testing.assert_allclose(mean.mean(name), array, rtol=3e-7)


def test_each_array_is_divided_by_the_samples_of_the_devices_that_sent_it() -> None:
    """Weight: (1 * 10 + 4 * 30) / 40 = 3.25; the bias came from the second device alone."""
    mean = RunningMean({"weight": (1,), "bias": (1,), "head": (1,)})

    add(mean, *sent(weight=np.float32([1])), num_samples=10)
    add(mean, *sent(weight=np.float32([4]), bias=np.float32([-2])), num_samples=30)

    assert mean.mean("weight") == np.float32([3.25])
    assert mean.mean("bias") == np.float32([-2])
    with pytest.raises(ValueError, match="no device sent array 'head'"):
        mean.mean("head")
    assert [mean.num_samples(name) for name in ("weight", "bias", "head")] == [40, 30, 0]


def test_a_scale_shrinks_an_update_but_not_its_samples() -> None:
    """(8 * 0.25 * 10 + 2 * 10) / 20 = 2."""
    mean = RunningMean({"weight": (1,)})

    add(mean, *sent(weight=np.float32([8])), num_samples=10, scale=0.25)
    add(mean, *sent(weight=np.float32([2])), num_samples=10)

    assert mean.mean("weight") == np.float32([2])


def test_arrays_larger_than_a_block_are_averaged_like_small_ones() -> None:
    rng = np.random.default_rng(0)
    size = 2 * BLOCK_LENGTH + 17
    first, second = (rng.standard_normal(size).astype(np.float32) for _ in range(2))
    mean = RunningMean({"weight": (size,)})

    add(mean, *sent(weight=first), num_samples=1)
    add(mean, *sent(weight=second), num_samples=3)

    expected = (first + second * np.float32(3)) / np.float32(4)
    np.testing.assert_array_equal(mean.mean("weight"), expected)
    np.testing.assert_array_equal(mean.block("weight", BLOCK_LENGTH - 1, size), expected[BLOCK_LENGTH - 1 :])


def test_what_does_not_belong_is_refused() -> None:
    mean = RunningMean({"weight": (2,)})

    with pytest.raises(ValueError, match="at least 1, not 0"):
        add(mean, *sent(weight=np.zeros(2, np.float32)), num_samples=0)
    with pytest.raises(KeyError, match="bias"):
        add(mean, *sent(bias=np.zeros(2, np.float32)), num_samples=1)


def test_memory_does_not_grow_with_the_number_of_updates() -> None:
    """4 or 64 updates of 4 MiB: the peak stays one model and one block, plus the update at hand."""
    size = 1 << 20

    def peak_bytes(num_updates: int) -> int:
        tracemalloc.start()
        mean = RunningMean({"weight": (size,)})
        for number in range(num_updates):
            add(mean, *sent(weight=np.full(size, number, np.float32)), num_samples=1)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    few, many = peak_bytes(4), peak_bytes(64)

    assert many <= few * 1.02
    assert many < 3.5 * 4 * size


def test_the_median_bound_ignores_a_minority_of_giants() -> None:
    norms = [1.0, 2.0, 3.0, 1e9, 1e12]

    assert median_bound(norms) == 3.0
    assert median_bound([1.0, 3.0]) == 2.0
    with pytest.raises(statistics.StatisticsError):
        median_bound([])


@given(st.floats(1e-30, 1e30), st.just(0.0) | st.floats(1e-30, 1e30))
def test_a_scaled_norm_never_exceeds_its_bound(norm: float, bound: float) -> None:
    scale = scale_within(norm, bound=bound)

    assert 0.0 <= scale <= 1.0
    assert norm * scale <= bound * (1 + 1e-12)
