"""Filters declare what they do, and a wrong order is refused before any of them runs."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgeml_client import DeltaFilter, FilterRegistry, apply_filters
from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import (
    FilterEffects,
    Sensitivity,
    Sparsity,
    filters_of,
    resolve_announced,
    resolve_filters,
)
from edgeml_client.schemas import RoundConfig

CLIP = {"type": "gradient_clip", "max_norm": 1.0}
NOISE = {"type": "gaussian_noise", "sigma": 0.1}
VALID = {"type": "norm_validation", "max_norm": 10.0}
TOP = {"type": "sparsification", "top_k": 0.5}
BITS = {"type": "quantization", "bits": 8}
FEEDBACK = {"type": "error_feedback"}
MASK = {"type": "mask"}


class Masked(DeltaFilter):
    """Stands for secure aggregation."""

    effects = FilterEffects(masks=True)

    def process(self, delta: dict[str, Any], config: Any = None) -> None:
        """Add what the other devices' masks take away again."""
        for array in delta.values():
            np.add(array, 7, out=array)


class Undeclared(DeltaFilter):
    """Declares nothing."""

    def process(self, delta: dict[str, Any], config: Any = None) -> None:
        """Leave everything as it is."""


@pytest.fixture
def mask() -> Iterator[None]:
    """The type ``mask`` is registered."""
    FilterRegistry.register("mask", Masked)
    yield
    FilterRegistry.unregister("mask")


WRONG = [
    pytest.param([NOISE, CLIP], "'gradient_clip' may not follow 'gaussian_noise'.*before", id="noise, clip"),
    pytest.param(
        [CLIP, NOISE, CLIP], "'gradient_clip' may not follow 'gaussian_noise'", id="clip, noise, clip"
    ),
    pytest.param(
        [CLIP, NOISE, TOP], "where the noise is largest.*write 'sparsification' before", id="noise, top-k"
    ),
    pytest.param([BITS, TOP], "grid.*write 'sparsification' before 'quantization'", id="quantize, top-k"),
    pytest.param([BITS, VALID, TOP], "'sparsification' may not follow 'quantization'", id="not adjacent"),
]


@pytest.mark.parametrize(("filters", "message"), WRONG)
def test_a_wrong_order_is_refused_with_the_reason_and_what_to_write(
    filters: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(FilterConfigError, match=message):
        resolve_filters(filters)
    with pytest.raises(FilterConfigError, match=message):
        apply_filters({"w": np.ones(2)}, filters)


@pytest.mark.usefixtures("mask")
@pytest.mark.parametrize("after", [CLIP, NOISE, VALID, TOP, BITS, FEEDBACK, MASK, Undeclared()])
def test_nothing_may_follow_masking(after: Any) -> None:
    with pytest.raises(FilterConfigError, match=r"may not follow 'mask'.*write 'mask' last"):
        resolve_filters([MASK, after])

    assert len(resolve_filters([CLIP, MASK])) == 2


@pytest.mark.parametrize(
    "filters",
    [
        [VALID, CLIP, TOP, NOISE, BITS],
        [CLIP, NOISE, VALID, BITS],
        [CLIP, CLIP, NOISE, NOISE],
        [CLIP, FEEDBACK, TOP, BITS],
        [BITS, CLIP, NOISE],
        [Undeclared(), NOISE, Undeclared(), BITS, Undeclared()],
    ],
)
def test_other_orders_are_fine(filters: list[Any]) -> None:
    assert len(resolve_filters(filters)) == len(filters)


def test_each_rule_names_the_first_pair_that_breaks_it(caplog: pytest.LogCaptureFixture) -> None:
    """Noise before each of three clips is one mistake, and quantization before top-k is another."""
    with caplog.at_level(logging.WARNING):
        resolve_filters([NOISE, CLIP, CLIP, CLIP, BITS, TOP], strict=False)

    assert [re.findall(r"'(\w+)' may not follow '(\w+)'", record.message) for record in caplog.records] == [
        [("gradient_clip", "gaussian_noise")],
        [("sparsification", "gaussian_noise")],
        [("sparsification", "quantization")],
    ]


def test_a_round_asks_for_64_filters_at_most() -> None:
    assert len(resolve_announced(RoundConfig(filters=(CLIP,) * 64))) == 64
    with pytest.raises(ValidationError, match=r"(?s)filters.*at most 64 items"):
        RoundConfig(filters=(CLIP,) * 65)


@pytest.mark.parametrize(("filters", "message"), WRONG)
def test_when_not_strict_a_wrong_order_is_logged_and_kept(
    filters: list[dict[str, Any]], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = apply_filters({"w": np.ones(4)}, filters, strict=False)

    assert [entry.type for entry in result.audit_trail] == [entry["type"] for entry in filters]
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert re.search(message, caplog.text)


def test_filters_behind_others_are_checked_against_them_and_returned_alone() -> None:
    round_steps = resolve_filters([CLIP, NOISE])

    with pytest.raises(FilterConfigError, match="'sparsification' may not follow 'gaussian_noise'"):
        resolve_filters([TOP], behind=round_steps)

    assert [step.type for step in resolve_filters([BITS], behind=round_steps)] == ["quantization"]


def test_a_round_of_another_control_plane_may_cost_accuracy_but_not_privacy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Clip, noise, top-k, quantization is what the documentation of edgeml-sdk 1.0.0 shows."""
    with caplog.at_level(logging.WARNING):
        steps = resolve_announced(RoundConfig(clip_norm=1.0, filters=(NOISE, TOP, BITS)))
    with pytest.raises(FilterConfigError, match="'gradient_clip' may not follow 'gaussian_noise'"):
        resolve_announced(RoundConfig(filters=(NOISE, CLIP)))

    assert [step.type for step in steps] == [
        "gradient_clip", "gaussian_noise", "sparsification", "quantization",
    ]  # fmt: skip
    assert "which is kept: filter 'sparsification' may not follow 'gaussian_noise'" in caplog.text


def test_a_clip_that_is_said_twice_is_done_once() -> None:
    assert filters_of(RoundConfig(clip_norm=1.0)) == (CLIP,)
    assert filters_of(RoundConfig(clip_norm=1.0, filters=({**CLIP},))) == (CLIP,)
    assert filters_of(RoundConfig(clip_norm=1.0, filters=(BITS,))) == (CLIP, BITS)
    assert filters_of(RoundConfig()) == ()


def test_a_filter_that_declares_nothing_promises_nothing() -> None:
    effects = Undeclared().effects

    assert effects == FilterEffects()
    assert (effects.sensitivity, effects.sparsity) == (Sensitivity.UNKNOWN, Sparsity.UNKNOWN)
    assert effects.bits_per_number == 32
    assert not any((effects.masks, effects.quantizes, effects.selects))


def test_a_declaration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Undeclared().effects.masks = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"max_norm": 1.0}, "goes with Sensitivity.BOUNDS"),
        ({"sensitivity": Sensitivity.BOUNDS}, "goes with Sensitivity.BOUNDS"),
        ({"sensitivity": Sensitivity.BOUNDS, "max_norm": 0.0}, "not above 0"),
        ({"bits_per_number": 0}, "neither None nor 1 to 32"),
        ({"bits_per_number": 64}, "neither None nor 1 to 32"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(declared: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilterEffects(**declared)
