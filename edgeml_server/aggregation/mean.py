r"""The sample-weighted mean of a stream of updates, in the memory of one model.

FedAvg (McMahan et al., 2017, https://arxiv.org/abs/1602.05629, Algorithm 1) in its delta form:
:math:`w_{t+1} = w_t + \sum_k n_k \Delta_k / \sum_k n_k`. An array that some devices keep private
is averaged over the devices that sent it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeml_client.updates.coding import Chunk

__all__ = ["BLOCK_LENGTH", "RunningMean"]

BLOCK_LENGTH: Final = 1 << 18
"""Elements handled at a time: 1 MiB of float32 stays in the cache of one core."""

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Place:
    """Positions ``start`` to ``stop`` of an update's vector lie ``offset`` further on in the sums."""

    start: int
    stop: int
    offset: int


class RunningMean:
    """Adds updates one after the other and keeps one float32 sum per array.

    The sums are made in the order of the calls, in float32, element by element: the same updates in
    the same order give the same bits, on any machine and after any number of restarts. Memory is one
    float32 model and one block, however many updates there are.

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
        self._scratch = np.empty(BLOCK_LENGTH, dtype=np.float32)

    def num_samples(self, name: str) -> int:
        """Return the samples of the devices that sent this array."""
        return self._num_samples[name]

    def add(
        self, arrays: Iterable[tuple[str, Float32Array]], *, num_samples: int, scale: float = 1.0
    ) -> None:
        """Add one device's arrays to the sums.

        Args:
            arrays: Names and float32 arrays in the registered shapes; arrays that are missing count as
                not sent by this device.
            num_samples: The samples behind this update, at least 1.
            scale: A factor on the arrays alone, for a norm bound; the samples count in full.

        Raises:
            ValueError: ``num_samples`` is less than 1, or an array has another shape.
            KeyError: An array is not one that is averaged.
        """
        factor = _factor(num_samples, scale)
        for name, array in arrays:
            total = self._sums[name]
            if array.shape != self._shapes[name]:
                raise ValueError(f"array {name!r} has shape {array.shape}, expected {self._shapes[name]}")
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # whoever uses the mean checks that it is finite
                self._add_scaled(total, array.reshape(-1), factor)
            self._num_samples[name] += num_samples

    def add_chunks(
        self, chunks: Iterable[Chunk], names: Iterable[str], *, num_samples: int, scale: float = 1.0
    ) -> None:
        """Add one device's update chunk by chunk, with the bits that :meth:`add` gives.

        Args:
            chunks: The parts of its vector that hold values.
            names: The arrays whose numbers, one after the other, are that vector.
            num_samples: As in :meth:`add`.
            scale: As in :meth:`add`.

        Raises:
            ValueError: ``num_samples`` is less than 1.
            KeyError: An array is not one that is averaged.
        """
        factor = _factor(num_samples, scale)
        sent = tuple(names)
        places = self._places(sent)
        for chunk in chunks:
            for place in places:
                first, last = max(chunk.start, place.start), min(chunk.stop, place.stop)
                if first < last:
                    target = self._total[first + place.offset : last + place.offset]
                    chunk.add_into_(target, first=first, factor=factor)
        for name in sent:
            self._num_samples[name] += num_samples

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
        for start in range(0, total.size, BLOCK_LENGTH):
            block = slice(start, min(start + BLOCK_LENGTH, total.size))
            product = np.multiply(values[block], factor, out=self._scratch[: block.stop - block.start])
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


def _factor(num_samples: int, scale: float) -> np.float32:
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, not {num_samples}")
    return np.float32(num_samples * scale)
