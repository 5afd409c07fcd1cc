r"""The sample-weighted mean of a stream of updates, in the memory of one model.

FedAvg (McMahan et al., 2017, https://arxiv.org/abs/1602.05629, Algorithm 1) in its delta form:
:math:`w_{t+1} = w_t + \sum_k n_k \Delta_k / \sum_k n_k`. An array that some devices keep private
is averaged over the devices that sent it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_LENGTH", "RunningMean"]

BLOCK_LENGTH: Final = 1 << 18
"""Elements handled at a time: 1 MiB of float32 stays in the cache of one core."""

Float32Array = npt.NDArray[np.float32]


class RunningMean:
    """Adds updates one after the other and keeps one float32 sum per array.

    The sums are made in the order of the calls, in float32, element by element: the same updates in
    the same order give the same bits, on any machine and after any number of restarts. Memory is one
    float32 model and one block, however many updates there are.

    Args:
        shapes: The arrays that are averaged, by name.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]]) -> None:
        self._sums: dict[str, Float32Array] = {
            name: np.zeros(math.prod(shape), dtype=np.float32) for name, shape in shapes.items()
        }
        self._shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self._num_samples = dict.fromkeys(self._sums, 0)
        self._scratch = np.empty(BLOCK_LENGTH, dtype=np.float32)
        self._num_updates = 0

    @property
    def num_updates(self) -> int:
        """How many updates were added."""
        return self._num_updates

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
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, not {num_samples}")
        factor = np.float32(num_samples * scale)
        for name, array in arrays:
            total = self._sums[name]
            if array.shape != self._shapes[name]:
                raise ValueError(f"array {name!r} has shape {array.shape}, expected {self._shapes[name]}")
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # whoever uses the mean checks that it is finite
                self._add_scaled(total, array.reshape(-1), factor)
            self._num_samples[name] += num_samples
        self._num_updates += 1

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
