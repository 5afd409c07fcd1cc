"""low_rank keeps the leading directions of each matrix, and never enlarges an update."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml_client import apply_filters
from edgeml_client.filters import LowRankFilter
from edgeml_client.filters.low_rank import nearest_of_rank
from tests.client.filters.arrays_strategy import as_vector, deltas


def _low_rank(delta: Any, rank: int, seed: int = 0) -> Any:
    return apply_filters(delta, [{"type": "low_rank", "rank": rank}], generator=np.random.default_rng(seed))


def _matrix(rows: int, columns: int, *, seed: int = 0) -> Any:
    """A matrix whose singular values halve from one to the next."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((rows, rows))).Q[:, : min(rows, columns)]
    right = np.linalg.qr(rng.standard_normal((columns, columns))).Q[:, : min(rows, columns)]
    return (left * 0.5 ** np.arange(min(rows, columns))) @ right.T


@settings(deadline=None)
@given(delta=deltas(), rank=st.integers(1, 3), seed=st.integers(0, 1000))
def test_no_norm_grows_and_no_rank_is_above_the_asked_one(delta: Any, rank: int, seed: int) -> None:
    result = _low_rank(delta, rank, seed)

    assert np.linalg.norm(as_vector(result.delta)) <= np.linalg.norm(as_vector(delta)) * (1 + 1e-7)
    for name, array in delta.items():
        assert result[name].shape == array.shape
        if array.ndim < 2 or rank * (array.shape[0] + array[:1].size) >= array.size:
            np.testing.assert_allclose(result[name], array, rtol=1e-6)
        else:
            flat = np.asarray(result[name], np.float64).reshape(array.shape[0], -1)
            singular = np.linalg.svd(flat, compute_uv=False)
            assert (singular[rank:] <= 1e-5 * max(1e-30, singular[0])).all()


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
def test_a_matrix_of_that_rank_comes_back(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((shape[0], 3)) @ rng.standard_normal((3, shape[1]))

    np.testing.assert_allclose(_low_rank({"w": matrix}, 3)["w"], matrix, rtol=1e-4, atol=1e-5)


def test_what_is_lost_is_nearly_as_little_as_can_be() -> None:
    """Eckart-Young: no matrix of rank 2 is closer than the root of the sum of the other squared sigmas.

    With sigmas 1, 1/2, 1/4, ... that is sqrt(1/16 + 1/64 + ...) = sqrt(1/12) = 0.2887.
    """
    matrix = _matrix(40, 60)

    error = np.linalg.norm(matrix - nearest_of_rank(matrix, rank=2, generator=np.random.default_rng(2)))

    assert np.sqrt(1 / 12) - 1e-9 <= error < 1.001 * np.sqrt(1 / 12)


def test_a_kernel_is_a_matrix_with_a_row_for_each_output_channel() -> None:
    kernel = _matrix(16, 72).reshape(16, 8, 3, 3)

    result = _low_rank({"conv": kernel}, 2)["conv"]

    assert result.shape == kernel.shape
    assert np.linalg.matrix_rank(result.reshape(16, 72), tol=1e-5) == 2


def test_vectors_and_matrices_too_small_to_gain_stay_bit_for_bit() -> None:
    """A 4 by 4 matrix holds 16 numbers, as many as two factors of rank 2."""
    rng = np.random.default_rng(3)
    delta = {"bias": rng.standard_normal(9, np.float32), "w": rng.standard_normal((4, 4), np.float32)}

    result = _low_rank(delta, 2)

    assert result["bias"].tobytes() == delta["bias"].tobytes()
    assert result["w"].tobytes() == delta["w"].tobytes()


def test_it_may_stand_between_a_clip_and_the_noise_that_refers_to_it() -> None:
    delta = {"w": _matrix(40, 60) * 100}
    filters = [{"type": "gradient_clip", "max_norm": 1.0}, {"type": "low_rank", "rank": 39}]

    for seed in range(20):
        result = apply_filters(delta, filters[:1], generator=np.random.default_rng(seed))
        lower = _low_rank(result.delta, 20, seed)
        assert np.linalg.norm(as_vector(lower.delta)) <= 1.0


@pytest.mark.parametrize("size", [1e-37, 1.0, 1e37])
def test_numbers_near_the_ends_of_float32_are_fine(size: float) -> None:
    """Entries of a rank-one matrix; their squares lie far beyond float32."""
    matrix = np.outer(np.arange(1.0, 9.0), np.arange(1.0, 9.0)) / 64 * size

    np.testing.assert_allclose(_low_rank({"w": matrix}, 1)["w"], matrix, rtol=1e-5)


def test_a_matrix_of_zeros_stays_one() -> None:
    assert not LowRankFilter(rank=1).process({"w": np.zeros((8, 8))})["w"].any()
    assert not _low_rank({"w": np.zeros((8, 8))}, 1)["w"].any()


def test_at_the_end_it_takes_the_bytes_of_its_factors_and_elsewhere_those_of_the_matrix() -> None:
    """Factors: 40 + 60 numbers of 4 bytes, and 16 bytes for the one chunk. A matrix: 40 * 60 numbers."""
    matrix = _matrix(40, 60)
    low_rank, clip = {"type": "low_rank", "rank": 1}, {"type": "gradient_clip", "max_norm": 9.0}

    at_the_end, elsewhere = apply_filters({"w": matrix}, [low_rank, clip]).audit_trail

    assert at_the_end.num_bytes == 4 * (40 + 60) + 16
    assert elsewhere.num_bytes == 4 * 40 * 60
