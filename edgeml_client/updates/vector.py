"""A delta as one contiguous float32 vector, with a zero-copy view for each array."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import NonFiniteError
from edgeml_client.updates.arrays import Float32Array, State, as_numpy, layout_of
from edgeml_client.updates.layout import Layout

__all__ = ["BLOCK", "DeltaVector", "NumberSource", "blocks_of", "norm_from", "sum_of_squares"]

BLOCK: Final = 1 << 16
"""Numbers that are worked on at a time: few enough to stay in a core's cache between two operations."""


class NumberSource(Protocol):
    """Numbers in the order of a layout, which lie somewhere or are computed when they are read."""

    @property
    def layout(self) -> Layout:
        """Names and shapes; every dtype is float32."""
        ...

    def read_into(self, target: Float32Array, *, start: int) -> None:
        """Fill ``target``, which is flat, with the numbers from position ``start`` on."""
        ...


def blocks_of(source: NumberSource) -> Iterator[tuple[int, Float32Array]]:
    """Yield the start and the numbers of each block, in memory that the next block overwrites."""
    size = source.layout.size
    scratch = np.empty(min(size, BLOCK), np.float32)
    for start in range(0, size, BLOCK):
        block = scratch[: min(BLOCK, size - start)]
        source.read_into(block, start=start)
        yield start, block


def sum_of_squares(values: Float32Array, *, scratch: npt.NDArray[np.float64] | None = None) -> float:
    """Return the sum of squares of a flat array in float64; it is finite exactly when all values are.

    Squares of float32 numbers stay below 1.2e77, so no finite input overflows.

    Args:
        values: The numbers.
        scratch: Memory for a block of numbers, for those who call this often.
    """
    total = 0.0
    scratch = np.empty(min(values.size, BLOCK), np.float64) if scratch is None else scratch
    for start in range(0, values.size, BLOCK):
        block = scratch[: min(BLOCK, values.size - start)]
        block[...] = values[start : start + BLOCK]
        total += float(np.dot(block, block))
    return total


@dataclass(frozen=True, slots=True)
class DeltaVector:
    """The floating arrays of a delta, one after the other in the order of their names.

    Attributes:
        values: All numbers, contiguous and writable.
        layout: Names and shapes; every dtype is float32.

    Example:
        >>> vector = DeltaVector.of({"b": np.ones(2, np.float32), "a": np.zeros((1, 2), np.float32)})
        >>> vector.values.tolist(), round(vector.norm(), 4)
        ([0.0, 0.0, 1.0, 1.0], 1.4142)
    """

    values: Float32Array
    layout: Layout

    @classmethod
    def empty(cls, layout: Layout) -> DeltaVector:
        """Return a vector whose numbers are still to be written.

        Args:
            layout: Of float32 arrays.
        """
        return cls(np.empty(layout.size, np.float32), layout)

    @classmethod
    def of(cls, arrays: State) -> DeltaVector:
        """Return a copy of ``arrays``, NumPy or torch, as one vector.

        Raises:
            ModelMismatchError: An entry is no dense floating array.
        """
        vector = cls.empty(layout_of(arrays).as_float32())
        for name, view in vector.items():
            view[...] = as_numpy(arrays[name], dtype=np.float32)
        return vector

    def items(self) -> Iterator[tuple[str, Float32Array]]:
        """Yield each name with the view of its part; writing to the view writes to the vector."""
        start = 0
        for spec in self.layout:
            yield spec.name, self.values[start : start + spec.size].reshape(spec.shape)
            start += spec.size

    def views(self) -> dict[str, Float32Array]:
        """Return all views by name."""
        return dict(self.items())

    def read_into(self, target: Float32Array, *, start: int) -> None:
        """Copy the numbers from position ``start`` on to ``target``."""
        target[...] = self.values[start : start + target.size]

    def norm(self) -> float:
        """Return the L2 norm over all arrays.

        Raises:
            NonFiniteError: An array holds NaN or Inf; the error names it.
        """
        return norm_from(sum_of_squares(self.values), self)

    def count_nonzero(self) -> int:
        """Return how many numbers are not zero."""
        return sum(
            int(np.count_nonzero(self.values[start : start + BLOCK] != 0))
            for start in range(0, self.values.size, BLOCK)
        )


def norm_from(squares: float, source: NumberSource) -> float:
    """Return the L2 norm that belongs to the sum of squares of a source.

    Raises:
        NonFiniteError: The sum is not finite; the error names the first array with NaN or Inf.
    """
    if not math.isfinite(squares):
        raise NonFiniteError(next(_names_with_bad_numbers(source)))
    return math.sqrt(squares)


def _names_with_bad_numbers(source: NumberSource) -> Iterator[str]:
    start = 0
    for spec in source.layout:
        numbers = np.empty(spec.size, np.float32)
        source.read_into(numbers, start=start)
        start += spec.size
        if not np.isfinite(numbers).all():
            yield spec.name
