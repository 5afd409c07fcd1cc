"""Reading files without holding them: mapped where little of them is needed, in pieces where all is."""

from __future__ import annotations

import mmap
from io import FileIO
from pathlib import Path
from typing import Final

__all__ = ["let_go", "map_file", "read_into"]

_CAN_LET_GO: Final = hasattr(mmap, "MADV_DONTNEED")


def map_file(path: Path) -> memoryview:
    """Return the bytes of a file, read-only and without reading them; nothing for an empty one.

    What is read of them counts as memory of this process until the mapping ends, so use :func:`read_into` for
    a pass over a large file. The mapping ends with the last reference to it. It is not closed by hand: an
    array, or the traceback of a refusal, may still refer to it, and Python then refuses to.

    Raises:
        OSError: There is no such file, or it cannot be read.
    """
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:  # nothing to map
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def let_go(memory: memoryview) -> None:
    """Let what was read of a mapped file leave the memory of this process; reading it again brings it back.

    The kernel maps some megabytes at the first touch of a large file. What is not mapped stays as it is.
    """
    if isinstance(memory.obj, mmap.mmap) and _CAN_LET_GO:
        memory.obj.madvise(mmap.MADV_DONTNEED)


def read_into(file: FileIO, buffer: memoryview) -> None:
    """Fill ``buffer`` with the next bytes of an unbuffered file.

    Raises:
        OSError: They cannot be read, or the file ends before.
    """
    num_read = 0
    while num_read < len(buffer):
        count = file.readinto(buffer[num_read:])
        if not count:
            raise OSError(f"{file.name} ends at byte {file.tell()}: it was cut while it was read")
        num_read += count
