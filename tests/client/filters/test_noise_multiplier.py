"""noise_multiplier makes as much noise as the clip before it asks for, and refuses to guess."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml_client import DeltaFilter, apply_filters
from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import (
    FilterEffects,
    GaussianNoiseFilter,
    GradientClipFilter,
    Sensitivity,
    resolve_filters,
)

CLIP = {"type": "gradient_clip", "max_norm": 0.5}
NOISE = {"type": "gaussian_noise", "noise_multiplier": 1.2}


class Changed(DeltaFilter):
    """Says nothing about norms."""

    def process(self, delta: dict[str, Any], config: Any = None) -> None:
        """Leave everything as it is."""


class Halved(Changed):
    """Says that it never enlarges a norm."""

    effects = FilterEffects(sensitivity=Sensitivity.KEEPS)


class ClippedByMe(Changed):
    """Says that it bounds the norm by 3."""

    effects = FilterEffects(sensitivity=Sensitivity.BOUNDS, max_norm=3.0)


def sigma_of(*filters: Any) -> float:
    """Return the standard deviation that the last of ``filters`` got."""
    return float(str(resolve_filters(filters)[-1].parameters["sigma"]))


def test_sigma_is_the_multiplier_times_the_bound() -> None:
    """1.2 * 0.5 = 0.6; over n = 200,000 draws the deviation's standard error is sigma / sqrt(2n)."""
    delta = {"w": np.zeros(200_000, np.float32)}

    result = apply_filters(delta, [CLIP, NOISE], generator=np.random.default_rng(5))

    assert result.audit_trail[1].parameters == {"sigma": 0.6, "noise_multiplier": 1.2}
    assert abs(result["w"].std(dtype=np.float64) - 0.6) < 5 * 0.6 / np.sqrt(400_000)


def test_the_nearest_clip_counts_and_what_never_enlarges_a_norm_may_stand_between() -> None:
    """The bounds are 0.5, 3 and 2 = the one of the object; sigma = 1.2 times the nearest."""
    between = [
        {"type": "norm_validation", "max_norm": 9.0},
        {"type": "exclude", "names": ["b"]},
        {"type": "sparsification", "top_k": 0.5},
        {"type": "sparsification", "random_k": 0.5, "seed": 1},
        {"type": "low_rank", "rank": 1},
        Halved(),
    ]

    assert sigma_of(CLIP, *between, NOISE) == pytest.approx(0.6)
    assert sigma_of(CLIP, ClippedByMe(), NOISE) == pytest.approx(3.6)
    assert sigma_of(GradientClipFilter(2.0), GaussianNoiseFilter(noise_multiplier=1.2)) == pytest.approx(2.4)
    assert sigma_of(CLIP, {"type": "gaussian_noise", "sigma": 9.0}, NOISE) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([NOISE], "none stands before it in its list; write 'gradient_clip' before it, or give sigma"),
        ([{"type": "norm_validation", "max_norm": 1.0}, NOISE], "none stands before it"),
        ([CLIP, {"type": "quantization", "bits": 8}, NOISE], "'quantization' in front of it may enlarge"),
        (
            [CLIP, Changed(), NOISE],
            "'Changed' in front of it may enlarge the norm; write 'gradient_clip' dir",
        ),
        (
            [CLIP, {**NOISE, "sigma": 0.7}],
            "sigma = 0.7 contradicts noise_multiplier = 1.2 behind a clip to 0.5",
        ),
        ([CLIP, {**NOISE, "stddev": 0.7}], "contradicts"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_multiplier_without_a_bound_is_refused_in_any_case(
    filters: list[Any], message: str, *, strict: bool
) -> None:
    with pytest.raises(FilterConfigError, match=message):
        resolve_filters(filters, strict=strict)


def test_the_clip_must_stand_in_the_same_list() -> None:
    with pytest.raises(FilterConfigError, match="none stands before it in its list"):
        resolve_filters([NOISE], behind=resolve_filters([CLIP]))


def test_a_sigma_beyond_float32_is_refused_however_it_comes_about() -> None:
    """1e30 * 1e10 = 1e40."""
    clip = {"type": "gradient_clip", "max_norm": 1e10}
    with pytest.raises(FilterConfigError, match=r"sigma = 1e\+40 cannot work"):
        resolve_filters([clip, {"type": "gaussian_noise", "noise_multiplier": 1e30}])


def test_what_was_calibrated_may_be_said_again() -> None:
    """A control plane keeps and announces both figures; the device checks that they still agree."""
    said = {"type": "gaussian_noise", **resolve_filters([CLIP, NOISE])[1].parameters}

    assert sigma_of(CLIP, {**said, "stddev": said["sigma"]}) == pytest.approx(0.6)


def test_a_multiplier_by_itself_makes_no_noise() -> None:
    with pytest.raises(FilterConfigError, match="noise_multiplier refers to the clip before it"):
        GaussianNoiseFilter(noise_multiplier=1.0).process({"w": np.ones(2)})
