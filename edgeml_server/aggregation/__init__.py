"""Aggregation: many updates in, one new global version out, one model in memory."""

from edgeml_server.aggregation.combine import (
    Contribution,
    DivergedError,
    average_updates,
    write_next_version,
)
from edgeml_server.aggregation.mean import RunningMean
from edgeml_server.aggregation.norm_bound import NormBound, median_bound, scale_within

__all__ = [
    "Contribution",
    "DivergedError",
    "NormBound",
    "RunningMean",
    "average_updates",
    "median_bound",
    "scale_within",
    "write_next_version",
]
