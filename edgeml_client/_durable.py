"""Files that are there as a whole or not at all, also after a crash or a power cut."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Generator[BinaryIO]:
    """Yield a file, open for reading and writing, that takes the place of ``path`` if the block succeeds.

    The content is flushed to the disk before the rename, and the rename before this returns. If the block
    raises, what was at ``path`` is still there, and nothing else.

    Args:
        path: The file; its folder must be there.
        mode: The permissions of the new file.

    Raises:
        OSError: The file cannot be written.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(part, flags, mode), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the entries of a folder; Windows neither needs nor allows it."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
