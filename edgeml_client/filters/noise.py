"""Gaussian noise on an update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, Final, Self

import numpy as np
from pydantic import model_validator
from typing_extensions import override

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters, rename
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.schemas.numbers import NonNegativeFloat32
from edgeml_client.updates.array_names import is_variance
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.vector import DeltaVector

__all__ = ["GaussianNoiseFilter"]

_BLOCK: Final = 1 << 16


class NoiseScale(FilterParameters):
    """``sigma``, or ``noise_multiplier``, at least 0; both, if they agree."""

    sigma: NonNegativeFloat32 | None = None
    noise_multiplier: NonNegativeFloat32 | None = None

    @model_validator(mode="after")
    def _some_scale(self) -> Self:
        if self.sigma is None and self.noise_multiplier is None:
            raise ValueError("needs 'sigma', or 'noise_multiplier' behind a clip")
        return self


class GaussianNoiseFilter(VectorFilter):
    r"""``gaussian_noise{sigma}`` or ``gaussian_noise{noise_multiplier}``: add normal noise to every number.

    With a ``noise_multiplier`` :math:`z`, the standard deviation is :math:`\sigma = z C` for the bound
    :math:`C` of the clip before it: the Gaussian mechanism as in Abadi et al., 2016
    (https://arxiv.org/abs/1607.00133, Algorithm 1). :func:`resolve_filters` finds that clip in the same list;
    what stands between may not enlarge a norm. On a device this is *local* privacy; a mean over :math:`n`
    devices has noise of :math:`\sigma / \sqrt n`.

    Arrays named ``running_var`` (or ``moving_var``, ``moving_variance``), whatever module they belong to, are
    left alone: a variance pushed below zero turns the next forward pass into NaN. So nothing hides them: keep
    them on the device, or ``exclude`` them. Integer arrays are not part of an update at all. Noise alone
    gives no privacy guarantee; put ``gradient_clip`` before it.

    Args:
        sigma: The standard deviation, in the units of the parameters. Configs may spell it ``stddev``.
        noise_multiplier: The standard deviation as a multiple of the bound of the clip before it.
    """

    filter_type = "gaussian_noise"
    parameters_type = NoiseScale
    effects = FilterEffects(sensitivity=Sensitivity.RANDOMIZES, sparsity=Sparsity.FILLS)

    def __init__(self, sigma: float | None = None, *, noise_multiplier: float | None = None) -> None:
        super().__init__(sigma=sigma, noise_multiplier=noise_multiplier)
        self.sigma = sigma
        self.noise_multiplier = noise_multiplier

    @classmethod
    @override
    def _canonical(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return rename(values, old="stddev", new="sigma", filter_type=cls.filter_type)

    def calibrated(self, *, max_norm: float) -> Self:
        """Return the filter with ``sigma`` = ``noise_multiplier`` * ``max_norm``, of the same class.

        Raises:
            FilterConfigError: It has another ``sigma`` already, or float32 cannot hold this one.
        """
        sigma = (self.noise_multiplier or 0.0) * max_norm
        if self.sigma is not None and not math.isclose(self.sigma, sigma, rel_tol=1e-9):
            raise FilterConfigError(
                f"filter {self.filter_type!r}: sigma = {self.sigma!r} contradicts noise_multiplier = "
                f"{self.noise_multiplier!r} behind a clip to {max_norm!r}; give one of the two"
            )
        told = {**self._parameters.model_dump(exclude_defaults=True), "sigma": sigma}
        filtering = copy(self)
        filtering.sigma = sigma
        filtering._parameters = self.parameters_type.read(told, filter_type=self.filter_type)  # noqa: SLF001 - a copy of this very object
        return filtering

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Add the noise.

        Raises:
            FilterConfigError: There is a ``noise_multiplier`` alone, and no clip that it refers to.
        """
        if self.sigma is None:
            raise FilterConfigError(
                f"filter {self.filter_type!r}: noise_multiplier refers to the clip before it; run both with "
                "apply_filters, or give sigma"
            )
        for name, view in vector.items():
            if not is_variance(name):
                add_noise_(view.reshape(-1), sigma=self.sigma, generator=generator)


def add_noise_(values: Float32Array, *, sigma: float, generator: np.random.Generator) -> None:
    """Add independent normal noise to a flat array, block by block: the same noise whatever the blocks."""
    scratch = np.empty(min(_BLOCK, values.size), np.float32)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        noise = scratch[: block.size]
        generator.standard_normal(out=noise, dtype=np.float32)
        noise *= np.float32(sigma)
        block += noise
