"""Files that are there as a whole or not at all, also after a crash or a power cut."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["PART_SUFFIX", "replacing", "sync_folder", "write_durably"]

PART_SUFFIX: Final = ".part"
"""How the names of files end that are still being written; a crash may leave one behind."""


@contextmanager
def replacing(path: Path, *, mode: int = 0o600) -> Generator[BinaryIO]:
    """Yield a file, open for reading and writing, that takes the place of ``path`` if the block succeeds.

    The content is flushed to the disk before the rename, and the rename before this returns. If the block
    raises, what was at ``path`` is still there, and nothing else.

    Args:
        path: The file; its folder must be there.
        mode: The permissions of the new file, less what the umask takes away.

    Raises:
        OSError: The file cannot be written.
    """
    part = path.with_name(f".{uuid.uuid4().hex}{PART_SUFFIX}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(part, flags, mode), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_durably(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put ``data`` in the place of ``path``; see :func:`replacing`."""
    with replacing(path, mode=mode) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder, so that a rename in it survives a power cut.

    Windows cannot open a folder; NTFS orders renames by itself.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
