"""Matrices of a low rank instead of the full one."""

from __future__ import annotations

from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field
from typing_extensions import override

from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.filters.scaling import ROUNDING_MARGIN
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.vector import DeltaVector

__all__ = ["LowRankFilter", "nearest_of_rank"]

Matrix = npt.NDArray[np.floating[Any]]

_NUM_ITERATIONS: Final = 4
"""PowerSGD takes one step from where the last round ended; a device starts anew, and takes a few."""

_EXPONENTS: Final = (-126, 126)
"""Powers of two that float32 holds, and their inverses too."""


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

    Arrays keep their full shape, and an update file has no form for factors: by itself this saves no
    bytes. It takes out the small directions, in which devices differ most.

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
        for view in vector.views().values():
            rows = view.shape[0] if view.ndim > 1 else 0
            if rows and self.rank * (rows + view.size // rows) < view.size:
                matrix = view.reshape(rows, -1)
                matrix[...] = nearest_of_rank(matrix, rank=self.rank, generator=generator)
        norm_after = vector.norm()
        if norm_after <= norm:
            return norm_after
        np.multiply(vector.values, norm / norm_after * ROUNDING_MARGIN, out=vector.values)
        return vector.norm()


def nearest_of_rank(matrix: Matrix, *, rank: int, generator: np.random.Generator) -> Matrix:
    """Return nearly the closest matrix of at most ``rank``, by subspace iteration from a random start.

    Halko et al., 2011 (https://arxiv.org/abs/0909.4061, Algorithm 4.4). It is an orthogonal projection of
    ``matrix`` to within rounding; a matrix of that rank comes back as it was.

    Args:
        matrix: Two dimensions, finite numbers.
        rank: At least 1, and below both dimensions.
        generator: The source of the start.
    """
    exponent = int(np.clip(np.frexp(np.max(np.abs(matrix)))[1], *_EXPONENTS))
    scaled = matrix * np.float32(2.0**-exponent)  # squares of large numbers would overflow
    right: Matrix = generator.standard_normal((scaled.shape[1], rank), dtype=np.float32)
    left: Matrix = np.linalg.qr(scaled @ right).Q
    for _ in range(_NUM_ITERATIONS):
        right = np.linalg.qr(scaled.T @ left).Q
        left = np.linalg.qr(scaled @ right).Q
    projected: Matrix = left @ (scaled.T @ left).T
    projected *= np.float32(2.0**exponent)
    return projected
