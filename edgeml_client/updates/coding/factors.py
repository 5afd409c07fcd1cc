"""Matrices that travel as two factors of a low rank instead of their numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.spec import CHUNK_LENGTH, Chunk
from edgeml_client.updates.layout import ArraySpec, Layout
from edgeml_client.updates.vector import BLOCK, DeltaVector, NumberSource

__all__ = ["factored", "in_chunks", "is_factored", "joined", "leading_factors", "products", "stored_layout"]

Matrix = npt.NDArray[np.floating[Any]]

_NUM_ITERATIONS: Final = 4
"""PowerSGD takes one step from where the last round ended; a device starts anew, and takes a few."""

_EXPONENTS: Final = (-126, 126)
"""Powers of two that float32 holds, and their inverses too."""

_MARGIN: Final = np.float32(1.0 - 2.0**-20)
"""More than rounding can enlarge the norm of a projection by: a clip before the factors holds on."""

_START_SEED: Final = 0
"""Subspace iteration starts from the same directions each time: the same update gives the same bytes."""


def is_factored(spec: ArraySpec, rank: int) -> bool:
    """Return whether an array travels as two factors: where these hold fewer numbers than it does.

    An array of more than two dimensions is a matrix with one row for each entry of its first dimension.
    """
    if len(spec.shape) <= 1 or not spec.size:
        return False
    rows = spec.shape[0]
    return rank * (rows + spec.size // rows) < spec.size


def stored_layout(layout: Layout, rank: int | None) -> Layout:
    """Return the arrays whose numbers the streams of an update hold, in the order of the streams.

    Args:
        layout: The arrays of the update.
        rank: Of the factors; ``None`` if there are none, and the streams hold the arrays themselves.
    """
    return layout if rank is None else Layout(tuple(_stored(layout, rank)))


def _stored(layout: Layout, rank: int) -> Iterator[ArraySpec]:
    for spec in layout:
        if is_factored(spec, rank):
            rows = spec.shape[0]
            yield ArraySpec(f"{spec.name} (left factor)", (rows, rank), "F32")
            yield ArraySpec(f"{spec.name} (right factor)", (rank, spec.size // rows), "F32")
        else:
            yield spec


def factored(source: NumberSource, *, rank: int) -> DeltaVector:
    """Return the numbers that the streams of an update hold: factors of its matrices, and all other arrays.

    Args:
        source: The update; one array of it is in memory at a time.
        rank: Of the factors, at least 1.

    Raises:
        NonFiniteError: A number is NaN or Inf, or so large that a factor is.
    """
    vector = DeltaVector.empty(stored_layout(source.layout, rank))
    generator = np.random.Generator(np.random.PCG64(_START_SEED))
    parts = (part for _, part in vector.items())
    start = 0
    for spec in source.layout:
        part = next(parts)
        if is_factored(spec, rank):
            matrix = np.empty((spec.shape[0], spec.size // spec.shape[0]), np.float32)
            source.read_into(matrix.reshape(-1), start=start)
            left, right = _balanced(*leading_factors(matrix, rank=rank, generator=generator))
            part[...] = left
            np.multiply(right, _MARGIN, out=next(parts))
        elif spec.size:
            source.read_into(part.reshape(-1), start=start)
        start += spec.size
    vector.norm()
    return vector


def leading_factors(matrix: Matrix, *, rank: int, generator: np.random.Generator) -> tuple[Matrix, Matrix]:
    r"""Return two factors whose product is nearly the closest matrix of at most ``rank``.

    By subspace iteration from a random start (Halko et al., 2011, https://arxiv.org/abs/0909.4061, Algorithm
    4.4). With :math:`P` the left factor, whose columns are orthonormal, the right one is :math:`P^\top M`: to
    within rounding the product is an orthogonal projection of the matrix :math:`M`. Both are zero if it is,
    and what is not finite in it is in both.

    Args:
        matrix: Two dimensions, of which ``rank`` exceeds neither.
        rank: At least 1.
        generator: The source of the start.
    """
    largest = np.max(np.abs(matrix))
    if not 0 < largest < np.inf:
        return np.full((matrix.shape[0], rank), largest), np.full((rank, matrix.shape[1]), largest)
    exponent = int(np.clip(np.frexp(largest)[1], *_EXPONENTS))
    scaled = matrix * np.float32(2.0**-exponent)  # squares of large numbers would overflow
    right: Matrix = generator.standard_normal((scaled.shape[1], rank), dtype=np.float32)
    left: Matrix = np.linalg.qr(scaled @ right).Q
    for _ in range(_NUM_ITERATIONS):
        right = np.linalg.qr(scaled.T @ left).Q
        left = np.linalg.qr(scaled @ right).Q
    with np.errstate(over="ignore"):
        return left, (scaled.T @ left).T * np.float32(2.0**exponent)


def _balanced(left: Matrix, right: Matrix) -> tuple[Matrix, Matrix]:
    """Return the factors with numbers of like size: a block of values that reaches over both has one scale.

    One is multiplied by a power of two and the other divided by it, which changes no bit of the product.
    """
    largest = float(np.max(np.abs(left))), float(np.max(np.abs(right)))
    if not (min(largest) > 0 and max(largest) < math.inf):
        return left, right
    factor = np.float32(2.0 ** round((math.log2(largest[1]) - math.log2(largest[0])) / 2))
    return left * factor, right / factor


def products(left: Float32Array, right: Float32Array) -> Iterator[Float32Array]:
    """Yield the product of two factors, some rows at a time; each is new memory.

    The same bits come out on every machine: in float32, the terms are added in ascending order.
    """
    num_rows = max(1, BLOCK // right.shape[1])
    for first in range(0, left.shape[0], num_rows):
        yield _product(left[first : first + num_rows], right)


def _product(left: Float32Array, right: Float32Array) -> Float32Array:
    with np.errstate(over="ignore", invalid="ignore"):  # whether the result is finite is checked by its norm
        product = left[:, :1] * right[:1]
        term = np.empty_like(product)
        for number in range(1, right.shape[0]):
            np.multiply(left[:, number : number + 1], right[number : number + 1], out=term)
            product += term
    return product


def in_chunks(pieces: Iterator[Float32Array], *, size: int) -> Iterator[Chunk]:
    """Yield flat pieces, which follow each other, as the chunks of a vector of ``size`` numbers."""
    start = num_filled = 0
    chunk = np.empty(min(CHUNK_LENGTH, size), np.float32)
    for piece in pieces:
        num_taken = 0
        while num_taken < piece.size:
            taken = piece[num_taken : num_taken + chunk.size - num_filled]
            chunk[num_filled : num_filled + taken.size] = taken
            num_taken += taken.size
            num_filled += taken.size
            if num_filled == chunk.size:
                yield Chunk(start, start + num_filled, None, chunk)
                start, num_filled = start + num_filled, 0
                chunk = np.empty(min(CHUNK_LENGTH, size - start), np.float32)


def joined(pieces: Iterator[Float32Array], spec: ArraySpec) -> Float32Array:
    """Return flat pieces as the array they make up."""
    numbers = np.empty(spec.size, np.float32)
    start = 0
    for piece in pieces:
        numbers[start : start + piece.size] = piece
        start += piece.size
    return numbers.reshape(spec.shape)
