"""gaussian_noise adds noise of the asked size to parameters, and to nothing else."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from tests.client.filters.arrays_strategy import deltas


def test_the_noise_has_the_asked_deviation_and_no_mean() -> None:
    """Over n = 200,000 draws the mean's standard error is sigma/sqrt(n), the deviation's sigma/sqrt(2n)."""
    delta = {"w": np.zeros(200_000, np.float32)}

    noise = apply_filters(
        delta, [{"type": "gaussian_noise", "sigma": 0.5}], generator=np.random.default_rng(1)
    )["w"]

    assert abs(noise.mean(dtype=np.float64)) < 5 * 0.5 / np.sqrt(200_000)
    assert abs(noise.std(dtype=np.float64) - 0.5) < 5 * 0.5 / np.sqrt(400_000)


def test_the_same_generator_gives_the_same_noise_for_torch_and_numpy() -> None:
    filters = [{"type": "gaussian_noise", "sigma": 0.1}]
    delta = {"b": np.ones(3, np.float32), "a": np.ones((2, 2), np.float32)}
    as_torch = {name: torch.from_numpy(array) for name, array in delta.items()}

    from_numpy = apply_filters(delta, filters, generator=np.random.default_rng(7))
    from_torch = apply_filters(as_torch, filters, generator=np.random.default_rng(7))

    assert from_torch["a"].tolist() == from_numpy["a"].tolist()
    assert from_torch["b"].tolist() == from_numpy["b"].tolist()


@given(delta=deltas(), sigma=st.floats(0, 10, width=32, allow_subnormal=False), seed=st.integers(0, 1000))
def test_the_noise_does_not_depend_on_the_update(delta: Any, sigma: float, seed: int) -> None:
    """X + noise, rounded to float32: the noise is that of an update of zeros."""
    filters = [{"type": "gaussian_noise", "sigma": sigma}]
    zeros = {name: np.zeros_like(array) for name, array in delta.items()}

    noised = apply_filters(delta, filters, generator=np.random.default_rng(seed))
    noise = apply_filters(zeros, filters, generator=np.random.default_rng(seed))

    for name, array in delta.items():
        assert np.array_equal(noised[name], array + noise[name])


def test_noise_does_not_depend_on_how_it_is_divided_into_blocks() -> None:
    delta = {"w": np.zeros(200_001, np.float32)}

    noise = apply_filters(
        delta, [{"type": "gaussian_noise", "sigma": 1.0}], generator=np.random.default_rng(4)
    )["w"]

    whole = np.random.default_rng(4).standard_normal(200_001, dtype=np.float32)
    assert np.array_equal(noise, whole)


def test_without_a_generator_noise_never_repeats() -> None:
    filters = [{"type": "gaussian_noise", "sigma": 1.0}]
    delta = {"w": np.zeros(8, np.float32)}

    assert apply_filters(delta, filters)["w"].tolist() != apply_filters(delta, filters)["w"].tolist()


@pytest.mark.parametrize("name", ["running_var", "body.bn1.running_var", "bn.moving_variance"])
def test_a_variance_is_never_noised(name: str) -> None:
    delta = {name: np.ones(4, np.float32), "bn1.weight": np.ones(4, np.float32)}

    noised = apply_filters(delta, [{"type": "gaussian_noise", "sigma": 9.0}])

    assert noised[name].tolist() == [1, 1, 1, 1]
    assert noised["bn1.weight"].tolist() != [1, 1, 1, 1]


def test_counters_pass_through_as_integers() -> None:
    delta = {"w": torch.zeros(2), "bn.num_batches_tracked": torch.tensor(5)}

    noised = apply_filters(delta, [{"type": "gaussian_noise", "stddev": 1.0}])

    assert noised["bn.num_batches_tracked"].dtype == torch.int64
    assert noised["bn.num_batches_tracked"].item() == 5
