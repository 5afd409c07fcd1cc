"""A delta as one contiguous float32 vector, with a zero-copy view for each array."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeml_client.errors import NonFiniteError
from edgeml_client.updates.arrays import Float32Array, State, as_numpy, layout_of
from edgeml_client.updates.layout import Layout

__all__ = ["DeltaVector", "sum_of_squares"]

_CHUNK: Final = 1 << 16


def sum_of_squares(values: Float32Array) -> float:
    """Return the sum of squares of a flat array in float64; it is finite exactly when all values are.

    Squares of float32 numbers stay below 1.2e77, so no finite input overflows.
    """
    total = 0.0
    scratch = np.empty(min(values.size, _CHUNK), np.float64)
    for start in range(0, values.size, _CHUNK):
        chunk = scratch[: min(_CHUNK, values.size - start)]
        chunk[...] = values[start : start + _CHUNK]
        total += float(np.dot(chunk, chunk))
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
    def of(cls, arrays: State) -> DeltaVector:
        """Return a copy of ``arrays``, NumPy or torch, as one vector.

        Raises:
            ModelMismatchError: An entry is no dense floating array.
        """
        layout = layout_of(arrays).as_float32()
        vector = cls(np.empty(layout.size, np.float32), layout)
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

    def copy(self) -> DeltaVector:
        """Return a vector that shares nothing with this one."""
        return DeltaVector(self.values.copy(), self.layout)

    def norm(self) -> float:
        """Return the L2 norm over all arrays.

        Raises:
            NonFiniteError: An array holds NaN or Inf; the error names it.
        """
        total = sum_of_squares(self.values)
        if not math.isfinite(total):
            raise NonFiniteError(next(name for name, view in self.items() if not np.isfinite(view).all()))
        return math.sqrt(total)

    def count_nonzero(self) -> int:
        """Return how many numbers are not zero."""
        return sum(
            int(np.count_nonzero(self.values[start : start + _CHUNK] != 0))
            for start in range(0, self.values.size, _CHUNK)
        )
