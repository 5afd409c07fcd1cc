"""What a training loop needs to make an update: the delta, and the filters."""

from edgeml_client.filters import (
    DataKind,
    DeltaFilter,
    FilterRegistry,
    FilterResult,
    apply_filters,
)
from edgeml_client.updates import compute_state_dict_delta

__all__ = [
    "DataKind",
    "DeltaFilter",
    "FilterRegistry",
    "FilterResult",
    "apply_filters",
    "compute_state_dict_delta",
]
