"""Aggregation: many updates in, one new global version out, one model in memory."""

from edgeml_server.aggregation.mean import RunningMean
from edgeml_server.aggregation.norm_bound import NormBound, median_bound, scale_within

__all__ = ["NormBound", "RunningMean", "median_bound", "scale_within"]
