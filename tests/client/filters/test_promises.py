"""What a filter of the user's own declares is held against what it did, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client import DeltaFilter, apply_filters
from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import (
    ExcludeFilter,
    FilterEffects,
    GradientClipFilter,
    Sensitivity,
    Sparsity,
    resolve_filters,
)

DELTA = {"a": np.array([3.0, 0.0]), "b": np.array([4.0, 0.0])}
"""Its norm is 5, and two of its four numbers are zero."""

KEEPS_NORM = FilterEffects(sensitivity=Sensitivity.KEEPS)


class Own(DeltaFilter):
    """Does to each array what it is told, and declares what it is told."""

    def __init__(self, change: Callable[[Any], Any], effects: FilterEffects) -> None:
        self._change = change
        self.effects = effects

    def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
        """Return new arrays."""
        return {name: self._change(array) for name, array in delta.items()}


def zeros_of(sparsity: Sparsity) -> FilterEffects:
    return FilterEffects(sparsity=sparsity)


@pytest.mark.parametrize(
    ("change", "effects", "broken"),
    [
        (lambda x: x * 2, KEEPS_NORM, "the norm grew from 5 to 10"),
        (
            lambda x: x / 2,
            FilterEffects(sensitivity=Sensitivity.BOUNDS, max_norm=1.0),
            "max_norm = 1, but the norm is 2.5",
        ),
        (lambda x: x + 1, zeros_of(Sparsity.KEEPS), "2 numbers that were zero are not any more"),
        (lambda x: x + 1, zeros_of(Sparsity.ADDS), "Sparsity.ADDS, but 2 numbers that were zero"),
        (lambda x: x + 1, zeros_of(Sparsity.SELECTS_LARGEST), "SELECTS_LARGEST, but 2 numbers"),
        (lambda x: x + 1, zeros_of(Sparsity.SELECTS_RANDOM), "SELECTS_RANDOM, but 2 numbers"),
        (lambda x: x * (x > 3), zeros_of(Sparsity.KEEPS), "1 numbers became zero"),
        (lambda x: x[::-1].copy(), zeros_of(Sparsity.KEEPS), "2 numbers that were zero are not any more"),
    ],
)
@pytest.mark.parametrize("convert", [np.array, torch.from_numpy])
def test_a_broken_promise_names_the_filter_and_what_to_declare(
    change: Callable[[Any], Any], effects: FilterEffects, broken: str, convert: Callable[[Any], Any]
) -> None:
    delta = {name: convert(array) for name, array in DELTA.items()}
    told = change if convert is np.array else lambda array: torch.from_numpy(change(array.numpy()))

    with pytest.raises(FilterConfigError, match=f"filter 'Own' declares .*{broken}.* declare S"):
        apply_filters(delta, [Own(told, effects)])


@pytest.mark.parametrize(
    ("change", "effects"),
    [
        (lambda x: x * 2, FilterEffects()),
        (lambda x: x + 1, zeros_of(Sparsity.FILLS)),
        (lambda x: x * (x > 3), zeros_of(Sparsity.ADDS)),
        (lambda x: x * (x > 3), zeros_of(Sparsity.SELECTS_LARGEST)),
        (lambda x: x * np.float32(1 + 1e-6), KEEPS_NORM),
        (lambda x: -x, FilterEffects(sensitivity=Sensitivity.KEEPS, sparsity=Sparsity.KEEPS)),
        (
            lambda x: x / np.float32(5),
            FilterEffects(sensitivity=Sensitivity.BOUNDS, max_norm=1.0, sparsity=Sparsity.KEEPS),
        ),
    ],
)
def test_a_kept_promise_is_silent_and_rounding_breaks_none(
    change: Callable[[Any], Any], effects: FilterEffects
) -> None:
    result = apply_filters(DELTA, [Own(change, effects)])

    for name, array in DELTA.items():
        np.testing.assert_allclose(result[name], change(array), rtol=1e-6)


def test_what_underflows_has_not_been_dropped() -> None:
    """A number of 1e-40, divided by 10^10, is zero in float32."""
    delta = {"w": np.array([1.0, 1e-40])}

    scaled = apply_filters(delta, [Own(lambda x: x * np.float32(1e-10), zeros_of(Sparsity.KEEPS))])

    assert np.count_nonzero(scaled["w"]) == 1


def test_a_subclass_of_a_built_in_filter_is_held_to_what_it_inherits() -> None:
    class Doubling(GradientClipFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
            return {name: array * 2 for name, array in super().process(delta, config).items()}

    class Filling(ExcludeFilter):
        def apply_(self, vector: Any, *, generator: Any) -> None:
            vector.values.fill(1)

    with pytest.raises(FilterConfigError, match="'Doubling' declares max_norm = 1, but the norm is 2 after"):
        apply_filters(DELTA, [Doubling(1.0)])
    with pytest.raises(FilterConfigError, match=r"'Filling' declares .*2 numbers that were zero"):
        apply_filters(DELTA, [Filling(["a"])])


def test_what_one_result_cannot_tell_is_believed() -> None:
    """Bits and masks only decide which filters may follow."""
    effects = FilterEffects(bits_per_number=1, masks=True)

    apply_filters(DELTA, [Own(lambda x: x, effects)])

    assert resolve_filters([Own(lambda x: x, effects)])[0].step.effects == effects
