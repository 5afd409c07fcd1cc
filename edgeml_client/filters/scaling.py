"""Filters that multiply a whole update by one number, which its norm alone decides."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

import numpy as np
from typing_extensions import override

from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.vector import DeltaVector

__all__ = ["ROUNDING_MARGIN", "ScalingFilter"]

ROUNDING_MARGIN: Final = 1.0 - 2.0**-23
"""Rounding a product to float32 may enlarge it by 2**-24; twice that keeps the bound strict."""


class ScalingFilter(VectorFilter):
    """A filter that need not see the numbers: a subclass says by what an update of some norm is multiplied.

    Where an update is coded, this happens block by block, and no filtered update is ever held as a whole.
    """

    @property
    def only_scales(self) -> bool:
        """Whether :meth:`factor_for` is all there is to it; a subclass may have an operation of its own."""
        return self.works_on_vectors and type(self).apply_knowing_norm_ is ScalingFilter.apply_knowing_norm_

    @abstractmethod
    def factor_for(self, norm: float) -> float:
        """Return what every number is multiplied by, in float32; 1 leaves the update as it is, bit by bit.

        Args:
            norm: The L2 norm of the update.
        """

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        ScalingFilter.apply_knowing_norm_(self, vector, norm=vector.norm(), generator=generator)

    @override
    def apply_knowing_norm_(
        self, vector: DeltaVector, *, norm: float, generator: np.random.Generator
    ) -> float:
        factor = self.factor_for(norm)
        if factor != 1.0:
            np.multiply(vector.values, factor, out=vector.values)
        return norm * factor
