"""Filters between training and upload: clip, noise, validate, sparsify, quantize, and your own."""

from edgeml_client.filters.clip import GradientClipFilter, NormValidationFilter
from edgeml_client.filters.compression import QuantizationFilter, SparsificationFilter
from edgeml_client.filters.delta_filter import DataKind, DeltaFilter, FilterConfig
from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.error_feedback import ErrorFeedbackFilter
from edgeml_client.filters.noise import GaussianNoiseFilter
from edgeml_client.filters.pipeline import apply_filters, filter_vector
from edgeml_client.filters.registry import FilterRegistry
from edgeml_client.filters.resolve import filters_of, resolve_announced, resolve_filters
from edgeml_client.filters.result import AuditEntry, FilterResult
from edgeml_client.filters.step import FilterStep

__all__ = [
    "AuditEntry",
    "DataKind",
    "DeltaFilter",
    "ErrorFeedbackFilter",
    "FilterConfig",
    "FilterEffects",
    "FilterRegistry",
    "FilterResult",
    "FilterStep",
    "GaussianNoiseFilter",
    "GradientClipFilter",
    "NormValidationFilter",
    "QuantizationFilter",
    "Sensitivity",
    "SparsificationFilter",
    "Sparsity",
    "apply_filters",
    "filter_vector",
    "filters_of",
    "resolve_announced",
    "resolve_filters",
]

for _built_in in (
    GradientClipFilter,
    GaussianNoiseFilter,
    NormValidationFilter,
    SparsificationFilter,
    QuantizationFilter,
    ErrorFeedbackFilter,
):
    FilterRegistry.register(_built_in.filter_type, _built_in)
