"""Where the content of a download goes: a file, or memory that is told its length before it comes."""

from __future__ import annotations

from typing import BinaryIO, Protocol

import numpy as np
from typing_extensions import override

__all__ = ["FileSink", "ReceivedMemory", "Sink"]


class Sink(Protocol):
    """Takes content from its start, perhaps several times: a download that broke off may begin again."""

    def expect(self, num_bytes: int) -> None:
        """Be told, before it comes, how long all of the content is; 0 if nobody knows.

        Raises:
            MemoryError: There is no room for so much.
        """
        ...

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        ...

    def clear(self) -> None:
        """Forget what was written."""
        ...


class FileSink(Sink):
    """A file, opened for writing.

    Args:
        file: Holds the content alone.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @override
    def expect(self, num_bytes: int) -> None:
        """Do nothing: a file grows as it is written."""

    @override
    def write(self, data: bytes) -> None:
        self._file.write(data)

    @override
    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()


class ReceivedMemory(Sink):
    """Memory, where a copy as ``bytes`` is not needed.

    Room for all of it is taken at once. NumPy asks the kernel for large pages then, and filling those takes a
    fourth of the time of bytes that grow: a model of 47 MB costs 9 ms instead of 38.
    """

    def __init__(self) -> None:
        self._room = np.empty(0, np.uint8)
        self._num_bytes = 0

    @override
    def expect(self, num_bytes: int) -> None:
        if num_bytes > self._room.size:
            try:
                grown = np.empty(num_bytes, np.uint8)
            except ValueError as exc:  # more than NumPy can count
                raise MemoryError(str(exc)) from exc
            grown[: self._num_bytes] = self._room[: self._num_bytes]
            self._room = grown

    @override
    def write(self, data: bytes) -> None:
        """Append ``data``, whether it was expected or not."""
        end = self._num_bytes + len(data)
        if end > self._room.size:
            self.expect(max(end, 2 * self._room.size))
        self._room[self._num_bytes : end] = np.frombuffer(data, np.uint8)
        self._num_bytes = end

    @override
    def clear(self) -> None:
        self._num_bytes = 0

    def view(self) -> memoryview:
        """Return what was written, read-only and not copied."""
        return self._room[: self._num_bytes].data.toreadonly()
