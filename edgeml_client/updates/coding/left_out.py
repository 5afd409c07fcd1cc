"""What a coded update leaves out, computed where it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.spec import Chunk
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.vector import NumberSource, blocks_of

__all__ = ["LeftOut"]


class ChunkedUpdate(Protocol):
    """An update that is read in chunks as long as those of the coded form."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks that hold values, in order."""
        ...


class LeftOut:
    r"""What the readers of a coded update will miss.

    With :math:`x` what was coded and :math:`\hat x` what the file decodes to, it is :math:`x - \hat x`,
    computed in float32. Where values are rounded to the nearest level, :math:`\hat x + (x - \hat x)` gives
    :math:`x` back bit by bit wherever :math:`\hat x` is within a factor of two of :math:`x` or zero, which
    nearest rounding makes certain but for the rounding of the multiplication itself.

    Args:
        source: What was coded; it must still give the same numbers.
        update: The file, which is decoded again: holding what rounding left would take a fifth of a model.
        follows: The number of the residual that is part of ``source``; see :meth:`ResidualStore.open`.
    """

    def __init__(self, source: NumberSource, update: ChunkedUpdate, *, follows: int) -> None:
        self.follows = follows
        self._source = source
        self._update = update

    @property
    def layout(self) -> Layout:
        """Names and shapes of what was coded."""
        return self._source.layout

    def blocks(self) -> Iterator[Float32Array]:
        """Yield all numbers in order, in memory that the next block overwrites."""
        chunks = self._update.chunks()
        chunk = next(chunks, None)
        for start, block in blocks_of(self._source):
            if chunk is not None and chunk.stop <= start:
                chunk = next(chunks, None)
            if chunk is not None and chunk.start <= start:
                _subtract_(block, chunk, low=start - chunk.start)
            yield block


def _subtract_(block: Float32Array, chunk: Chunk, *, low: int) -> None:
    """Subtract from a block, which begins at position ``low`` of the chunk and lies within it, its values."""
    high = low + block.size
    if chunk.positions is None:
        block -= chunk.values[low:high]
        return
    first, last = np.searchsorted(chunk.positions, np.array([low, high], chunk.positions.dtype))
    block[chunk.positions[first:last] - low] -= chunk.values[first:last]
