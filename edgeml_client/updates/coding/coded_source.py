"""The numbers that a coded update is made of: the delta, scaled, and what earlier updates left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.residual import KeptResidual
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.vector import NumberSource

__all__ = ["CodedSource"]


class CodedSource:
    """A delta times some factors, plus a residual: computed in this order, in float32, where it is read.

    Args:
        delta: The delta.
        factors: Multiply each number, one after the other.
        residual: Is added.
    """

    def __init__(self, delta: NumberSource, factors: Sequence[float], residual: KeptResidual | None) -> None:
        self._delta = delta
        self._factors = tuple(factors)
        self._residual = residual

    @property
    def layout(self) -> Layout:
        """Names and shapes of the delta."""
        return self._delta.layout

    def read_into(self, target: Float32Array, *, start: int) -> None:
        """Compute the numbers from position ``start`` on."""
        self._delta.read_into(target, start=start)
        for factor in self._factors:
            np.multiply(target, factor, out=target)
        if self._residual is not None:
            self._residual.add_to_(target, start=start)
