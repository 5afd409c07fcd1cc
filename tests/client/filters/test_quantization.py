"""quantization moves no number by more than half a step, and zero not at all."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from tests.client.filters.arrays_strategy import deltas

BITS = [1, 2, 3, 4, 5, 6, 7, 8, 16]


def _quantize(delta: Any, bits: int) -> Any:
    return apply_filters(delta, [{"type": "quantization", "bits": bits}])


@given(delta=deltas(), bits=st.sampled_from(BITS))
def test_the_error_is_at_most_half_a_step_and_zeros_stay_zero(delta: Any, bits: int) -> None:
    """One step of an array is its largest magnitude over max(1, 2**(bits-1) - 1)."""
    quantized = _quantize(delta, bits)

    for name, array in delta.items():
        largest = float(np.abs(array).max(initial=0))
        half_a_step = largest / max(1, 2 ** (bits - 1) - 1) / 2
        error = np.abs(np.asarray(quantized[name], np.float64) - array)
        assert (error <= half_a_step * (1 + 1e-6) + largest * 2.0**-23).all()
        assert (np.asarray(quantized[name])[array == 0] == 0).all()


@given(delta=deltas(), bits=st.sampled_from(BITS))
def test_an_array_holds_at_most_as_many_values_as_the_grid(delta: Any, bits: int) -> None:
    quantized = _quantize(delta, bits)

    for array in quantized.values():
        assert len(np.unique(np.abs(array))) <= 1 + max(1, 2 ** (bits - 1) - 1)


@given(delta=deltas(), bits=st.sampled_from(BITS))
def test_quantizing_twice_is_quantizing_once(delta: Any, bits: int) -> None:
    once = _quantize(delta, bits)
    twice = _quantize(once.delta, bits)

    for name in delta:
        np.testing.assert_allclose(twice[name], once[name], rtol=1e-6)


@given(delta=deltas(), bits=st.sampled_from(BITS), seed=st.integers(0, 1000))
def test_stochastic_rounding_moves_a_number_by_less_than_a_step_and_zero_not_at_all(
    delta: Any, bits: int, seed: int
) -> None:
    entry = {"type": "quantization", "bits": bits, "rounding": "stochastic"}
    quantized = apply_filters(delta, [entry], generator=np.random.default_rng(seed))

    for name, array in delta.items():
        largest = float(np.abs(array).max(initial=0))
        error = np.abs(np.asarray(quantized[name], np.float64) - array)
        assert (error <= largest / max(1, 2 ** (bits - 1) - 1) * (1 + 1e-6)).all()
        assert (np.asarray(quantized[name])[array == 0] == 0).all()


def test_stochastic_rounding_is_unbiased_where_nearest_rounding_is_not() -> None:
    """With 3 bits and m = 3 the grid is {-3, ..., 3}. 0.2 becomes 1 with probability 0.2, else 0.

    The mean of n = 100,000 has the deviation sqrt(0.2 * 0.8 / n) = 0.00126; nearest rounding always gives 0.
    """
    delta = {"w": np.array([3.0] + [0.2] * 100_000)}
    nearest = {"type": "quantization", "bits": 3}

    rounded = apply_filters(
        delta, [{**nearest, "rounding": "stochastic"}], generator=np.random.default_rng(0)
    )

    assert rounded.audit_trail[0].parameters == {"bits": 3, "rounding": "stochastic"}
    assert np.unique(rounded["w"]).tolist() == [0, 1, 3]
    assert abs(rounded["w"][1:].mean() - 0.2) < 5 * 0.00126
    assert np.unique(apply_filters(delta, [nearest])["w"]).tolist() == [0, 3]


def test_arrays_have_their_own_scales() -> None:
    quantized = _quantize({"small": np.array([1e-6, 0.0]), "large": np.array([1e6, 1.0])}, 8)

    assert quantized["small"].tolist() == pytest.approx([1e-6, 0.0])
    assert quantized["large"].tolist() == [1e6, 0.0]


def test_what_sparsification_dropped_stays_dropped() -> None:
    delta = {"w": np.random.default_rng(0).standard_normal(1000)}
    sparsified = apply_filters(delta, [{"type": "sparsification", "top_k": 0.1}])

    both = apply_filters(
        delta, [{"type": "sparsification", "top_k": 0.1}, {"type": "quantization", "bits": 4}]
    )

    assert np.count_nonzero(sparsified["w"]) == 100
    assert (both["w"][sparsified["w"] == 0] == 0).all()
