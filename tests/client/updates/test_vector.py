"""A delta is one vector, and its views are the same memory."""

import math

import numpy as np
import pytest
import torch

from edgeml_client.errors import ModelMismatchError, NonFiniteError
from edgeml_client.updates import DeltaVector


def test_writing_to_a_view_writes_to_the_vector() -> None:
    vector = DeltaVector.of({"b": np.zeros((2, 2)), "a": torch.tensor(1.0), "e": np.zeros((0, 3))})

    vector.views()["b"][1, 0] = 5

    assert vector.values.tolist() == [1, 0, 0, 5, 0]
    assert vector.layout.names == ("a", "b", "e")
    assert vector.views()["a"].shape == ()


def test_the_vector_is_a_copy() -> None:
    arrays = {"a": np.ones(2, np.float32)}
    vector = DeltaVector.of(arrays)

    vector.values[:] = 7

    assert arrays["a"].tolist() == [1, 1]


def test_the_norm_does_not_overflow_where_float32_would() -> None:
    """(1e30)**2 is beyond float32; the norm of two of them is sqrt(2) * 1e30."""
    vector = DeltaVector.of({"a": np.full(2, 1e30, np.float32)})

    assert vector.norm() == pytest.approx(math.sqrt(2) * 1e30, rel=1e-6)


def test_the_norm_keeps_float64_precision_over_a_million_numbers() -> None:
    """Equal numbers x have norm x * sqrt(n); summed one by one in float32 it would be off by percents."""
    vector = DeltaVector.of({"a": np.full(1_000_000, 0.1, np.float32)})

    assert vector.norm() == pytest.approx(float(np.float32(0.1)) * 1000, rel=1e-12)


def test_the_norm_is_the_finite_check() -> None:
    vector = DeltaVector.of({"a": np.ones(300_000), "b": np.array([0.0, np.nan])})

    with pytest.raises(NonFiniteError, match="'b'"):
        vector.norm()


def test_counters_cannot_be_part_of_it() -> None:
    with pytest.raises(ModelMismatchError, match="steps"):
        DeltaVector.of({"steps": np.array(3)})
