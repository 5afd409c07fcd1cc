"""A mean is added in the dtype a model is stored in, rounded once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeml_server.aggregation.stored_arrays import add_to_stored

TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
moderate = st.floats(-100, 100, width=32)


def raw(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.contiguous().view(torch.uint8).numpy())


@pytest.mark.parametrize("dtype", sorted(TORCH_DTYPES))
@settings(max_examples=40, deadline=None)
@given(base=hnp.arrays(np.float32, 7, elements=moderate), mean=hnp.arrays(np.float32, 7, elements=moderate))
def test_the_sum_is_rounded_as_torch_rounds_it(dtype: str, base: np.ndarray, mean: np.ndarray) -> None:
    stored = torch.from_numpy(base).to(TORCH_DTYPES[dtype])
    wide = torch.float64 if dtype == "F64" else torch.float32
    expected = (stored.to(wide) + torch.from_numpy(mean).to(wide)).to(TORCH_DTYPES[dtype])

    result, is_finite = add_to_stored(raw(stored), mean, dtype=dtype)

    assert result == raw(expected)
    assert is_finite


@pytest.mark.parametrize("dtype", sorted(TORCH_DTYPES))
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_result_that_is_not_finite_is_noticed(dtype: str, bad: float) -> None:
    stored = torch.ones(3, dtype=TORCH_DTYPES[dtype])

    _, is_finite = add_to_stored(raw(stored), np.float32([0, bad, 0]), dtype=dtype)

    assert not is_finite


def test_a_half_precision_model_that_overflows_is_noticed() -> None:
    """65504 is the largest float16; 65000 + 1000 becomes infinite."""
    stored = torch.tensor([65000.0], dtype=torch.float16)

    _, is_finite = add_to_stored(raw(stored), np.float32([1000]), dtype="F16")

    assert not is_finite


def test_bfloat16_ties_go_to_the_even_neighbour() -> None:
    """1 + 2^-8 lies half way between 1 and 1 + 2^-7; 1 + 3 * 2^-8 half way between 1 + 2^-7 and 1 + 2^-6."""
    stored = torch.ones(2, dtype=torch.bfloat16)

    result, _ = add_to_stored(raw(stored), np.float32([2.0**-8, 3 * 2.0**-8]), dtype="BF16")

    rounded = torch.frombuffer(bytearray(result), dtype=torch.bfloat16)
    assert rounded.tolist() == [1.0, 1.0 + 2.0**-6]
