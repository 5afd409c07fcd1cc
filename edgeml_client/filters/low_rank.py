"""Matrices of a low rank instead of the full one."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.filters.scaling import ROUNDING_MARGIN
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.coding.factors import is_factored, leading_factors
from edgeml_client.updates.vector import DeltaVector

__all__ = ["LowRankFilter", "nearest_of_rank"]

Matrix = npt.NDArray[np.floating[Any]]


class Rank(FilterParameters):
    """``rank``, at least 1."""

    rank: Annotated[int, Field(ge=1)]


class LowRankFilter(VectorFilter):
    r"""``low_rank{rank}``: replace each matrix of the update by one of at most that rank.

    As in PowerSGD (Vogels et al., 2019, https://arxiv.org/abs/1905.13727, Algorithm 1): a matrix :math:`M`
    becomes :math:`P P^\top M`, where the columns of :math:`P` are an orthonormal basis found by subspace
    iteration, close to the leading left singular vectors. An array of more dimensions is taken as a matrix
    with one row for each entry of its first dimension. Arrays of one dimension stay as they are, and so do
    matrices whose two factors would hold as many numbers as they do.

    At the end of a round's filters, alone or with ``quantization`` behind it, the two factors travel instead
    of the matrix (``docs/wire-format.md``, section 3.5): a thousand by a thousand numbers as 4,000 for each
    rank. Quantization then rounds the factors. Anywhere else the arrays keep their full shape, and what
    is taken out are the small directions.

    Args:
        rank: The largest rank that a matrix may have, at least 1.
    """

    filter_type = "low_rank"
    parameters_type = Rank
    effects = FilterEffects(sensitivity=Sensitivity.KEEPS, sparsity=Sparsity.FILLS)

    def __init__(self, rank: int) -> None:
        super().__init__(rank=rank)
        self.rank = rank

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        LowRankFilter.apply_knowing_norm_(self, vector, norm=vector.norm(), generator=generator)

    @override
    def apply_knowing_norm_(
        self, vector: DeltaVector, *, norm: float, generator: np.random.Generator
    ) -> float:
        for spec, (_, view) in zip(vector.layout, vector.items(), strict=True):
            if is_factored(spec, self.rank):
                matrix = view.reshape(spec.shape[0], -1)
                matrix[...] = nearest_of_rank(matrix, rank=self.rank, generator=generator)
        norm_after = vector.norm()
        if norm_after <= norm:
            return norm_after
        np.multiply(vector.values, norm / norm_after * ROUNDING_MARGIN, out=vector.values)
        return vector.norm()


def nearest_of_rank(matrix: Matrix, *, rank: int, generator: np.random.Generator) -> Matrix:
    """Return nearly the closest matrix of at most ``rank``; see :func:`leading_factors`.

    Args:
        matrix: Two dimensions, finite numbers.
        rank: At least 1, and below both dimensions.
        generator: The source of the start of a subspace iteration.
    """
    left, right = leading_factors(matrix, rank=rank, generator=generator)
    return left @ right
