"""Filters between training and upload: bound, hide, choose, shorten, and your own."""

from edgeml_client.filters.built_in import BUILT_IN
from edgeml_client.filters.clip import GradientClipFilter, NormValidationFilter
from edgeml_client.filters.delta_filter import DataKind, DeltaFilter, FilterConfig
from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.error_feedback import ErrorFeedbackFilter
from edgeml_client.filters.low_rank import LowRankFilter
from edgeml_client.filters.named_arrays import ExcludeFilter, OnlyFilter
from edgeml_client.filters.noise import GaussianNoiseFilter
from edgeml_client.filters.pipeline import apply_filters, run_filters_
from edgeml_client.filters.quantization import QuantizationFilter
from edgeml_client.filters.registry import FilterRegistry
from edgeml_client.filters.resolve import filters_of, resolve_announced, resolve_filters
from edgeml_client.filters.result import AuditEntry, FilterResult
from edgeml_client.filters.sparsification import SparsificationFilter
from edgeml_client.filters.step import FilterStep
from edgeml_client.filters.stochastic_sign import StochasticSignFilter

__all__ = [
    "AuditEntry",
    "DataKind",
    "DeltaFilter",
    "ErrorFeedbackFilter",
    "ExcludeFilter",
    "FilterConfig",
    "FilterEffects",
    "FilterRegistry",
    "FilterResult",
    "FilterStep",
    "GaussianNoiseFilter",
    "GradientClipFilter",
    "LowRankFilter",
    "NormValidationFilter",
    "OnlyFilter",
    "QuantizationFilter",
    "Sensitivity",
    "SparsificationFilter",
    "Sparsity",
    "StochasticSignFilter",
    "apply_filters",
    "filters_of",
    "resolve_announced",
    "resolve_filters",
    "run_filters_",
]

for _filter_class in BUILT_IN:
    FilterRegistry.register(_filter_class.filter_type, _filter_class)
