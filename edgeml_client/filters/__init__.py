"""Filters between training and upload: clip, noise, validate, sparsify, quantize, and your own."""

from edgeml_client.filters.clip import GradientClipFilter, NormValidationFilter
from edgeml_client.filters.compression import QuantizationFilter, SparsificationFilter
from edgeml_client.filters.delta_filter import DataKind, DeltaFilter, FilterConfig
from edgeml_client.filters.error_feedback import ErrorFeedbackFilter
from edgeml_client.filters.noise import GaussianNoiseFilter
from edgeml_client.filters.pipeline import FilterStep, apply_filters, filter_vector, resolve_filters
from edgeml_client.filters.registry import FilterRegistry
from edgeml_client.filters.result import AuditEntry, FilterResult

__all__ = [
    "AuditEntry",
    "DataKind",
    "DeltaFilter",
    "ErrorFeedbackFilter",
    "FilterConfig",
    "FilterRegistry",
    "FilterResult",
    "FilterStep",
    "GaussianNoiseFilter",
    "GradientClipFilter",
    "NormValidationFilter",
    "QuantizationFilter",
    "SparsificationFilter",
    "apply_filters",
    "filter_vector",
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
