"""Filters that bound how large an update may be: one shrinks it, one refuses it."""

from __future__ import annotations

from typing_extensions import override

from edgeml_client.errors import NormExceededError
from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.filters.scaling import ROUNDING_MARGIN, ScalingFilter
from edgeml_client.schemas.numbers import PositiveFloat32

__all__ = ["GradientClipFilter", "NormValidationFilter"]


class MaxNorm(FilterParameters):
    """``max_norm``, above 0."""

    max_norm: PositiveFloat32


class GradientClipFilter(ScalingFilter):
    r"""``gradient_clip{max_norm}``: bound the L2 norm of the *whole* update.

    Abadi et al., 2016 (https://arxiv.org/abs/1607.00133, Algorithm 1):
    :math:`\Delta \leftarrow \Delta \cdot \min(1, C / \lVert \Delta \rVert_2)`, with :math:`\Delta` all
    floating arrays taken as one vector. An update within the bound passes bit for bit; any other ends at
    the bound or just below it.

    Args:
        max_norm: The bound :math:`C`, above 0.
    """

    filter_type = "gradient_clip"
    parameters_type = MaxNorm

    def __init__(self, max_norm: float) -> None:
        super().__init__(max_norm=max_norm)
        self.max_norm = float(max_norm)
        self.effects = FilterEffects(
            sensitivity=Sensitivity.BOUNDS,
            max_norm=self.max_norm,
            sparsity=Sparsity.KEEPS,
            bits_per_number=None,
        )

    @override
    def factor_for(self, norm: float) -> float:
        return 1.0 if norm <= self.max_norm else self.max_norm / norm * ROUNDING_MARGIN


class NormValidationFilter(ScalingFilter):
    """``norm_validation{max_norm}``: refuse the whole update when its L2 norm exceeds the bound.

    Nothing is dropped in part: an update either goes out as it is, or not at all.

    Args:
        max_norm: The bound, above 0.
    """

    filter_type = "norm_validation"
    parameters_type = MaxNorm
    effects = FilterEffects(sensitivity=Sensitivity.KEEPS, sparsity=Sparsity.KEEPS, bits_per_number=None)

    def __init__(self, max_norm: float) -> None:
        super().__init__(max_norm=max_norm)
        self.max_norm = float(max_norm)

    @override
    def factor_for(self, norm: float) -> float:
        """Return 1 when the update is within the bound.

        Raises:
            NormExceededError: It is not.
        """
        if norm > self.max_norm:
            raise NormExceededError(norm=norm, max_norm=self.max_norm)
        return 1.0
