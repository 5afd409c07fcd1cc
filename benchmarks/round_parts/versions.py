"""What the servers of the limits hold: one flat float32 model, and the mean of what changed in it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.shapes import num_parameters

__all__ = ["Versions"]


class Versions:
    """A model that all devices fetch, and that goes on to its next version once all have answered.

    It changes in place: when the last update of a round is here, nobody reads the version before.

    Args:
        size: Of the model.
        num_devices: Updates in a round.
        keep: Called with each new version before anybody gets it.
    """

    def __init__(
        self, *, size: str, num_devices: int, keep: Callable[[npt.NDArray[np.float32]], None] | None = None
    ) -> None:
        self._model = np.zeros(num_parameters(size), np.float32)
        self._sum = np.zeros_like(self._model)
        self._num_devices = num_devices
        self._keep = keep
        self._number = 0
        self._num_added = 0
        self._changed = threading.Condition()

    def wait_for(self, number: int) -> memoryview:
        """Return the bytes of a version, at the latest when the round before it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._number >= number)
        return self._model.data.cast("B")

    def new_update(self) -> npt.NDArray[np.float32]:
        """Return memory for an update."""
        return np.empty_like(self._model)

    def add(self, update: npt.NDArray[np.float32]) -> None:
        """Count an update; the last one of a round makes the next version."""
        with self._changed:
            np.add(self._sum, update, out=self._sum)
            self._num_added += 1
            if self._num_added == self._num_devices:
                self._next_version()

    def _next_version(self) -> None:
        np.multiply(self._sum, np.float32(1 / self._num_devices), out=self._sum)
        np.add(self._model, self._sum, out=self._model)
        self._sum[...] = 0
        if self._keep is not None:
            self._keep(self._model)
        self._num_added = 0
        self._number += 1
        self._changed.notify_all()
