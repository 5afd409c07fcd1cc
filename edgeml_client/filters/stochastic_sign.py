"""One bit a number: a sign that is right in expectation."""

from __future__ import annotations

import numpy as np
from typing_extensions import override

from edgeml_client.filters.effects import FilterEffects, Sparsity
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.schemas.numbers import PositiveFloat32
from edgeml_client.updates.array_names import is_variance
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.vector import DeltaVector

__all__ = ["StochasticSignFilter"]


class SignBound(FilterParameters):
    """``bound``, above 0; by default each array has its own."""

    bound: PositiveFloat32 | None = None


class StochasticSignFilter(VectorFilter):
    r"""``stochastic_sign``: send the sign of each number, at random, so that the mean is right.

    The sto-sign compressor of Jin et al., 2020 (https://arxiv.org/abs/2002.10940, Definition 1): with a bound
    :math:`b`, a number :math:`x` becomes :math:`+b` with probability :math:`(b + x) / 2b` and :math:`-b`
    otherwise. Its expectation is :math:`x` wherever :math:`|x| \le b`, its variance :math:`b^2 - x^2`: what
    is lost is lost to noise, which the mean over many devices takes out again. Numbers beyond the bound are
    sent as the bound. Signs are scaled by :math:`b`, so any weighted mean may add them up.

    Zeros stay zero, so it may follow ``sparsification`` and ``exclude``. Variances such as BatchNorm's
    ``running_var`` are left alone, as by ``gaussian_noise``.

    Args:
        bound: :math:`b`, the same for all arrays; by default the largest magnitude of each array.
    """

    filter_type = "stochastic_sign"
    parameters_type = SignBound
    effects = FilterEffects(sparsity=Sparsity.KEEPS, bits_per_number=1)

    def __init__(self, bound: float | None = None) -> None:
        super().__init__(bound=bound)
        self.bound = bound

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        for name, view in vector.items():
            if not is_variance(name):
                self._take_signs_(view, generator)

    def _take_signs_(self, view: Float32Array, generator: np.random.Generator) -> None:
        bound = np.float32(self.bound or np.max(np.abs(view), initial=0.0))
        if bound > 0:
            chance_of_plus = (1 + view / bound) / 2
            signed = np.where(generator.random(view.shape, np.float32) < chance_of_plus, bound, -bound)
            np.copyto(view, signed, where=view != 0)
