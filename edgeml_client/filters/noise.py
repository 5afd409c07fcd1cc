"""Gaussian noise on an update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field
from typing_extensions import override

from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters, rename
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.vector import DeltaVector

__all__ = ["GaussianNoiseFilter"]

_VARIANCES: Final = frozenset({"running_var", "moving_var", "moving_variance"})


class Sigma(FilterParameters):
    """``sigma``, at least 0."""

    sigma: Annotated[float, Field(ge=0)]


class GaussianNoiseFilter(VectorFilter):
    """``gaussian_noise{sigma}``: add independent normal noise to every number of the update.

    Arrays named ``running_var`` (or ``moving_var``, ``moving_variance``), whatever module they belong to, are
    left alone: a variance pushed below zero turns the next forward pass into NaN. Integer arrays are not
    part of an update at all. Noise alone gives no privacy guarantee; put ``gradient_clip`` before it.

    Args:
        sigma: The standard deviation, in the units of the parameters. Configs may spell it ``stddev``.
    """

    filter_type = "gaussian_noise"
    parameters_type = Sigma
    effects = FilterEffects(sensitivity=Sensitivity.RANDOMIZES, sparsity=Sparsity.FILLS)

    def __init__(self, sigma: float) -> None:
        super().__init__(sigma=sigma)
        self.sigma = float(sigma)

    @classmethod
    @override
    def _canonical(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return rename(values, old="stddev", new="sigma", filter_type=cls.filter_type)

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        for name, view in vector.items():
            if name.rpartition(".")[2] not in _VARIANCES:
                noise = generator.standard_normal(view.shape, dtype=np.float32)
                np.add(view, noise * np.float32(self.sigma), out=view)
