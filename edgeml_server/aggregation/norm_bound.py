"""Bounding what one device can do to a round: no update counts longer than the median one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from enum import StrEnum

__all__ = ["NormBound", "median_bound", "scale_within"]


class NormBound(StrEnum):
    """How the L2 norms of a round's updates are bounded before they are averaged."""

    NONE = "none"
    MEDIAN = "median"


def median_bound(norms: Iterable[float]) -> float:
    """Return the median of the norms: fewer than half of the devices cannot move it past honest ones.

    Raises:
        statistics.StatisticsError: There are no norms.
    """
    return statistics.median(norms)


def scale_within(norm: float, *, bound: float | None) -> float:
    """Return the factor in [0, 1] that brings an update of this norm within ``bound``.

    Example:
        >>> scale_within(4.0, bound=1.0), scale_within(0.5, bound=1.0), scale_within(4.0, bound=None)
        (0.25, 1.0, 1.0)
    """
    return 1.0 if bound is None or norm <= bound else bound / norm
