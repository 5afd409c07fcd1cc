r"""The sample-weighted mean of a stream of updates, in the memory of one model.

FedAvg (McMahan et al., 2017, https://arxiv.org/abs/1602.05629, Algorithm 1) in its delta form:
:math:`w_{t+1} = w_t + \sum_k n_k \Delta_k / \sum_k n_k`. An array that some devices keep private
is averaged over the devices that sent it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeml_client.updates import Float32Array
from edgeml_client.updates.coding import Chunk

__all__ = ["BLOCK_LENGTH", "Addend", "RunningMean"]

BLOCK_LENGTH: Final = 1 << 16
"""Elements handled at a time: 256 KiB of float32 stay in the cache of one core."""


@dataclass(frozen=True, slots=True)
class Addend:
    """One update that is added to the sums.

    Attributes:
        chunks: The parts of its vector that hold values; they are read once, and overwritten if they are
            writable.
        num_samples: The samples behind it, at least 1.
        scale: A factor on its numbers alone, for a norm bound; the samples count in full.
    """

    chunks: Iterable[Chunk]
    num_samples: int
    scale: float = 1.0

    @property
    def factor(self) -> np.float32:
        """What its numbers are multiplied by.

        Raises:
            ValueError: ``num_samples`` is less than 1.
        """
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, not {self.num_samples}")
        return np.float32(self.num_samples * self.scale)


@dataclass(frozen=True, slots=True)
class _Place:
    """Positions ``start`` to ``stop`` of an update's vector lie ``offset`` further on in the sums."""

    start: int
    stop: int
    offset: int


class RunningMean:
    """Adds updates and keeps one float32 sum per array.

    Each sum is made in the order in which the updates are given, in float32, element by element: the same
    updates in the same order give the same bits, on any machine and after any number of restarts. Memory is
    one float32 model and one block, however many updates there are.

    Args:
        shapes: The arrays that are averaged, by name.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        self._starts = dict(zip(self._shapes, np.cumsum([0, *sizes]).tolist(), strict=False))
        self._total = np.zeros(sum(sizes), dtype=np.float32)
        self._sums: dict[str, Float32Array] = {
            name: self._total[self._starts[name] :][:size]
            for name, size in zip(self._shapes, sizes, strict=True)
        }
        self._num_samples = dict.fromkeys(self._sums, 0)

    def num_samples(self, name: str) -> int:
        """Return the samples of the devices that sent this array."""
        return self._num_samples[name]

    def add_together(self, addends: Sequence[Addend], names: Iterable[str]) -> None:
        """Add updates of the same arrays, with the bits that adding one after the other gives.

        The first chunk of each is added before the second one of any, so that a block of the sums stays in
        the cache while all of them are added to it. A chunk is added before the next one is read.

        Args:
            addends: The updates, in the order in which they count. Their chunks lie at the same positions.
            names: The arrays whose numbers, one after the other, are their vectors.

        Raises:
            ValueError: There are less than 1 samples behind an update.
            KeyError: An array is not one that is averaged.
        """
        factors = [addend.factor for addend in addends]
        sent = tuple(names)
        places = self._places(sent)
        with np.errstate(over="ignore", invalid="ignore"):  # whoever uses the mean checks that it is finite
            for number, chunk in _in_turns([iter(addend.chunks) for addend in addends]):
                self._add_chunk(chunk, places, factors[number])
        for name in sent:
            self._num_samples[name] += sum(addend.num_samples for addend in addends)

    def _add_chunk(self, chunk: Chunk, places: Sequence[_Place], factor: np.float32) -> None:
        for place in places:
            first, last = max(chunk.start, place.start), min(chunk.stop, place.stop)
            if first >= last:
                continue
            total = self._total[first + place.offset : last + place.offset]
            if chunk.positions is None:
                self._add_scaled(total, chunk.values[first - chunk.start : last - chunk.start], factor)
            else:
                chunk.add_into_(total, first=first, factor=factor)

    def _places(self, names: Sequence[str]) -> tuple[_Place, ...]:
        """Return where a vector of ``names`` lies in the sums, in as few pieces as possible."""
        places: list[_Place] = []
        start = 0
        for name in names:
            stop, offset = start + self._sums[name].size, self._starts[name] - start
            if places and places[-1].offset == offset:
                start = places.pop().start
            places.append(_Place(start, stop, offset))
            start = stop
        return tuple(places)

    def _add_scaled(self, total: Float32Array, values: Float32Array, factor: np.float32) -> None:
        is_ours = values.flags.writeable
        for start in range(0, total.size, BLOCK_LENGTH):
            block = slice(start, min(start + BLOCK_LENGTH, total.size))
            product = np.multiply(values[block], factor, out=values[block] if is_ours else None)
            np.add(total[block], product, out=total[block])

    def block(self, name: str, start: int, stop: int) -> Float32Array:
        """Return elements ``start`` to ``stop`` of an array's mean, as a new array.

        Raises:
            ValueError: No device sent the array, so it has no mean.
        """
        num_samples = self._num_samples[name]
        if num_samples == 0:
            raise ValueError(f"no device sent array {name!r}")
        return self._sums[name][start:stop] / np.float32(num_samples)

    def mean(self, name: str) -> Float32Array:
        """Return an array's mean in its registered shape.

        Raises:
            ValueError: No device sent the array, so it has no mean.
        """
        return self.block(name, 0, self._sums[name].size).reshape(self._shapes[name])


def _in_turns(streams: Sequence[Iterator[Chunk]]) -> Iterator[tuple[int, Chunk]]:
    """Yield the first chunk of each stream with its number, then the second of each, to their end."""
    while True:
        for number, stream in enumerate(streams):
            chunk = next(stream, None)
            if chunk is None:
                return
            yield number, chunk
