"""Layers that keep running statistics of what passes them."""

from __future__ import annotations

from torch.nn.modules.batchnorm import (
    _NormBase as BatchOrInstanceNorm,  # pyright: ignore[reportPrivateUsage] - torch has no public name for both
)

__all__ = ["BatchOrInstanceNorm"]
