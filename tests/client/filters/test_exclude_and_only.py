"""exclude and only choose arrays by name; what is left out does not change, and a mean stays a mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import ExcludeFilter, OnlyFilter, resolve_filters
from edgeml_client.updates.layout import ArraySpec, Layout
from tests.client.filters.arrays_strategy import deltas

NAMES = ("bn1.weight", "bn10.weight", "body.0.bias", "body.0.weight", "body.1.weight", "scale")


def _delta() -> dict[str, Any]:
    return {name: np.ones((2, 2) if name != "scale" else (), np.float32) for name in NAMES}


def _changed(entry: dict[str, Any]) -> list[str]:
    result = apply_filters(_delta(), [entry])
    return [name for name in NAMES if np.asarray(result[name]).any()]


@pytest.mark.parametrize(
    ("patterns", "named"),
    [
        (["bn1"], {"bn1.weight"}),
        (["bn*"], {"bn1.weight", "bn10.weight"}),
        (["bn?"], {"bn1.weight"}),
        (["body"], {"body.0.bias", "body.0.weight", "body.1.weight"}),
        (["body.0"], {"body.0.bias", "body.0.weight"}),
        (["body.*.weight"], {"body.0.weight", "body.1.weight"}),
        (["*.bias", "scale"], {"body.0.bias", "scale"}),
        (["body.[01].weight"], {"body.0.weight", "body.1.weight"}),
        (["*"], set(NAMES)),
    ],
)
def test_names_are_arrays_modules_or_globs(patterns: list[str], named: set[str]) -> None:
    excluded = _changed({"type": "exclude", "names": patterns})
    only = _changed({"type": "only", "names": patterns})

    assert set(only) == named
    assert set(excluded) == set(NAMES) - named


def test_a_name_that_matches_nothing_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        FilterConfigError, match=r"'bn2' matches no floating array.*bn1\.weight, bn10\.weight"
    ):
        apply_filters(_delta(), [{"type": "exclude", "names": ["body", "bn2"]}])
    with pytest.raises(FilterConfigError, match="'Body'"):
        apply_filters(_delta(), [{"type": "only", "names": ["Body"]}])


@given(delta=deltas(), position=st.integers(0, 2))
def test_together_they_are_the_whole_update(delta: Any, position: int) -> None:
    name = sorted(delta)[position % len(delta)]

    kept = apply_filters(delta, [{"type": "only", "names": [name]}])
    others = apply_filters(delta, [{"type": "exclude", "names": [name]}])

    for array_name, array in delta.items():
        assert np.array_equal(kept[array_name] + others[array_name], array)
        assert array_name == name or not np.any(kept[array_name])
    assert not np.any(others[name])


def test_counters_are_no_part_of_an_update_and_cannot_be_named() -> None:
    layout = Layout.of([ArraySpec("w", (2,), "F32"), ArraySpec("steps", (), "I64")])

    with pytest.raises(FilterConfigError, match="'steps' matches no floating array"):
        ExcludeFilter(["steps"]).check_layout(layout)
    OnlyFilter(["w"]).check_layout(layout)


def test_a_mean_over_devices_takes_an_excluded_array_as_unchanged() -> None:
    """Of three equal devices two send 3 for the head: the mean is (3 + 3 + 0) / 3 = 2."""
    plain = {"head": np.array([3.0]), "body": np.array([3.0])}
    excluding = apply_filters(plain, [{"type": "exclude", "names": ["head"]}])

    mean = {name: (plain[name] + plain[name] + excluding[name]) / 3 for name in plain}

    assert mean["head"].tolist() == [2.0]
    assert mean["body"].tolist() == [3.0]


def test_tensors_stay_tensors_and_parameters_are_audited_as_json() -> None:
    result = apply_filters(
        {"a": torch.ones(2), "b": torch.ones(2)}, [{"type": "only", "names": ["a"]}, OnlyFilter(("a",))]
    )

    assert result["a"].tolist() == [1, 1]
    assert torch.equal(result["b"], torch.zeros(2))
    assert [entry.parameters for entry in result.audit_trail] == [{"names": ["a"]}] * 2
    assert result.audit_trail[0].kept_fraction == 0.5
    assert resolve_filters([{"type": "only", "names": ("a",)}])[0].parameters == {"names": ["a"]}
