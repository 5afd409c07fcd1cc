"""The filters that every client knows."""

from __future__ import annotations

from typing import Final

from edgeml_client.filters.clip import GradientClipFilter, NormValidationFilter
from edgeml_client.filters.error_feedback import ErrorFeedbackFilter
from edgeml_client.filters.low_rank import LowRankFilter
from edgeml_client.filters.named_arrays import ExcludeFilter, OnlyFilter
from edgeml_client.filters.noise import GaussianNoiseFilter
from edgeml_client.filters.quantization import QuantizationFilter
from edgeml_client.filters.sparsification import SparsificationFilter
from edgeml_client.filters.stochastic_sign import StochasticSignFilter

__all__ = ["BUILT_IN"]

BUILT_IN: Final = (
    GradientClipFilter,
    GaussianNoiseFilter,
    NormValidationFilter,
    ExcludeFilter,
    OnlyFilter,
    SparsificationFilter,
    LowRankFilter,
    QuantizationFilter,
    StochasticSignFilter,
    ErrorFeedbackFilter,
)
"""Their classes; a subclass of one is a filter of the user's own."""
