"""Figures out of what Lightning measured."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from edgeml_lightning.naming import PERSONAL_PREFIX, under_prefix

__all__ = ["FEDERATED_PREFIX", "local_figures", "personal_figures"]

FEDERATED_PREFIX = "federated/"
"""In front of what the callback itself reports."""


def local_figures(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the finite scalars that the module itself logged, by their keys."""
    own = {
        key: value
        for key, value in metrics.items()
        if not key.startswith((PERSONAL_PREFIX, FEDERATED_PREFIX))
    }
    return _finite(own)


def personal_figures(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the finite scalars of the personal model, by the keys under which the module logs them."""
    return _finite(under_prefix(metrics, PERSONAL_PREFIX))


def _finite(metrics: Mapping[str, Tensor]) -> dict[str, float]:
    figures = {key: float(value) for key, value in sorted(metrics.items()) if value.numel() == 1}
    return {key: figure for key, figure in figures.items() if math.isfinite(figure)}
