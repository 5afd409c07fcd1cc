"""Figures of a round are numbers of float32, in which devices train."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from edgeml_client.schemas import RoundConfig

FIGURES = ("proximal_mu", "lambda_ditto", "clip_norm")
LIMITS = np.finfo(np.float32)


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("value", [1e308, 1e39, 1e-45, 1e-320, -1.0, float("nan"), float("inf")])
def test_a_figure_that_float32_cannot_hold_is_refused_when_it_is_read(name: str, value: float) -> None:
    with pytest.raises(ValidationError, match=name):
        RoundConfig.model_validate({name: value})


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("value", [float(LIMITS.max), float(LIMITS.tiny), 0.1])
def test_normal_numbers_of_float32_are_read_as_they_are(name: str, value: float) -> None:
    assert RoundConfig.model_validate({name: value})[name] == value


def test_a_weight_may_be_zero_and_a_bound_may_not() -> None:
    config = RoundConfig(proximal_mu=0.0, lambda_ditto=0.0)

    assert (config.proximal_mu, config.lambda_ditto) == (0, 0)
    with pytest.raises(ValidationError, match="clip_norm"):
        RoundConfig(clip_norm=0.0)
