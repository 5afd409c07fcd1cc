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
