"""Which values of a chunk share a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml_client.updates.layout import Layout

__all__ = ["Runs"]

Positions = npt.NDArray[np.integer[Any]]


class Runs:
    """Divides the values of a chunk into runs that share a scale.

    Args:
        layout: The arrays of the vector, in its order.
        block: The length of a run (the last one of a chunk may be shorter), or ``None``: a run is then
            what belongs to one array, and arrays without values in the chunk have none.
    """

    def __init__(self, layout: Layout, *, block: int | None) -> None:
        self._block = block
        self._ends = np.cumsum([spec.size for spec in layout], dtype=np.int64)

    def count(self, num_values: int) -> int | None:
        """Return how many runs that many values of a chunk make; ``None`` if it depends on where they are."""
        return None if self._block is None else -(-num_values // self._block)

    def lengths(self, positions: Positions | None, *, start: int, span: int) -> npt.NDArray[np.int64]:
        """Return the lengths of the runs of one chunk.

        Args:
            positions: Where the values of the chunk are, relative to ``start``; ``None`` means everywhere.
            start: The position of the chunk in the vector.
            span: How many positions it has.
        """
        num_values = span if positions is None else positions.size
        if self._block is not None:
            lengths = np.full(-(-num_values // self._block), self._block, np.int64)
            lengths[-1] -= lengths.size * self._block - num_values
            return lengths
        first, last = np.searchsorted(self._ends, [start, start + span - 1], side="right")
        ends = np.minimum(self._ends[first : last + 1] - start, span)
        if positions is not None:
            ends = np.searchsorted(positions, ends)
        lengths = np.diff(ends, prepend=0)
        return lengths[lengths > 0]
