"""The audit trail says what each filter did, and measures only what a filter can have changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml_client import DeltaFilter, apply_filters
from edgeml_client.filters import FilterEffects, Sparsity, resolve_filters
from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding.size import expected_num_bytes
from edgeml_client.updates.layout import ArraySpec, Layout
from tests.envelopes import envelope

HEADER = envelope()
TOP = {"type": "sparsification", "top_k": 0.1}
CLIP = {"type": "gradient_clip", "max_norm": 1.0}


class Erased(DeltaFilter):
    """Erases an update, and declares that zeros stay as they are."""

    effects = FilterEffects(sparsity=Sparsity.KEEPS)

    def process(self, delta: dict[str, Any], config: Any = None) -> None:
        """Break the promise, in place."""
        for array in delta.values():
            array.fill(0)


class ErasedAndSaidSo(Erased):
    """Erases an update, and declares nothing."""

    effects = FilterEffects()


def test_zeros_are_counted_only_after_filters_that_can_have_changed_them() -> None:
    """Numbers as small as these may round to zero. Nobody counted: the fraction is still the one before."""
    delta = {"w": np.array([1e-31, 0.0, 2e-31, 0.0])}

    clipped, trusted, counted = apply_filters(delta, [CLIP, Erased(), ErasedAndSaidSo()]).audit_trail

    assert (clipped.kept_fraction, trusted.kept_fraction, counted.kept_fraction) == (0.5, 0.5, 0.0)


def test_bytes_are_those_of_the_coded_update_if_it_left_the_device_now() -> None:
    """Dense: 4 bytes a number. Then a tenth of n = 100,000, at H(0.1) = 0.469 bits an index.

    Index: 1.02 * 0.469 * n / 8 = 5,980. Values: 10,000 * 4 as float32, and in 4 bits 10,000 * log2(15) / 8
    = 4,884 with 157 scales of 2 bytes. One chunk: 16 bytes.
    """
    delta = {"w": np.random.default_rng(0).standard_normal(100_000)}
    filters = [CLIP, TOP, {"type": "quantization", "bits": 4}]

    trail = apply_filters(delta, filters)["audit_trail"]

    assert trail[0]["num_bytes"] == 400_000
    assert trail[1]["num_bytes"] == pytest.approx(5_980 + 40_000 + 16, abs=2)
    assert trail[2]["num_bytes"] == pytest.approx(5_980 + 4_884 + 2 * 157 + 16, abs=2)


@pytest.mark.parametrize(
    "filters",
    [
        *([TOP, {"type": "quantization", "bits": bits}] for bits in (1, 2, 3, 4, 5, 8, 16)),
        *([{"type": "quantization", "bits": bits}] for bits in (2, 4, 8)),
        [{"type": "sparsification", "random_k": 0.01, "seed": 1}],
        [{"type": "sparsification", "top_k": 0.7}],
        [{"type": "exclude", "names": ["b"]}],
        [{"type": "stochastic_sign"}],
        [TOP, {"type": "stochastic_sign"}],
    ],
)
def test_the_computed_bytes_are_near_those_of_the_file(filters: list[dict[str, Any]]) -> None:
    """Normal numbers in two arrays. A file may be smaller, for quantized ones are not spread evenly."""
    rng = np.random.default_rng(0)
    delta = {"a": rng.standard_normal(200_000, np.float32), "b": rng.standard_normal(40_000, np.float32)}
    vector = DeltaVector.of(delta)
    before, ending = split_coded_ending(resolve_filters(filters))
    assert ending is not None
    for step in before:
        vector = DeltaVector.of(step.step.process(vector.views()) or {})

    file = ending.encode(HEADER, vector)
    computed = apply_filters(delta, filters).audit_trail[-1].num_bytes

    assert 0.6 * computed < len(file) < 1.15 * computed + 2000


def test_an_update_of_nothing_takes_nothing() -> None:
    layout = Layout.of([ArraySpec("w", (100,), "F32")])
    _, ending = split_coded_ending(resolve_filters([TOP]))
    assert ending is not None

    assert apply_filters({}, [TOP]).audit_trail[0].num_bytes == 0
    assert expected_num_bytes(ending.coding, layout, num_values=0, bits_per_value=32) == 16


@pytest.mark.parametrize("more", [[], [{"type": "quantization", "bits": 8}]])
def test_the_computed_bytes_of_factors_are_near_those_of_the_file(more: list[dict[str, Any]]) -> None:
    """Rank 4 of 500 x 400: 3,600 numbers instead of 200,000; the 70 of the bias go as they are."""
    rng = np.random.default_rng(0)
    delta = {"w": rng.standard_normal((500, 400), np.float32), "b": rng.standard_normal(70, np.float32)}
    filters = [{"type": "low_rank", "rank": 4}, *more]
    _, ending = split_coded_ending(resolve_filters(filters))
    assert ending is not None

    file = ending.encode(HEADER, DeltaVector.of(delta))
    computed = apply_filters(delta, filters).audit_trail[-1].num_bytes

    assert computed < 3_670 * 4 + 100
    assert 0.9 * computed < len(file) < 1.1 * computed + 1000
