"""Files that are there as a whole or not at all, also after a crash or a power cut."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from typing_extensions import Buffer

from edgeml_client.second_thread import in_second_thread

__all__ = [
    "PART_SUFFIX",
    "flushing_early",
    "in_pieces",
    "replacing",
    "sync_content",
    "sync_folder",
    "write_all",
    "write_digested",
    "write_durably",
]

PART_SUFFIX: Final = ".part"
"""How the names of files end that are still being written; a crash may leave one behind."""

_PIECE_BYTES: Final = 1 << 20
_FLUSH_BYTES: Final = 8 << 20
"""What must wait to be flushed before a second thread does so: less is not worth it."""


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


def write_durably(path: Path, data: bytes | memoryview, *, mode: int = 0o600) -> None:
    """Put ``data`` in the place of ``path``; see :func:`replacing`."""
    with replacing(path, mode=mode) as file, flushing_early(file) as write:
        for piece in in_pieces(data):
            write(piece)


def write_digested(path: Path, pieces: Iterable[Buffer]) -> bytes:
    """Put the pieces in the place of ``path``, see :func:`replacing`; return their SHA-256, 32 bytes.

    A second thread takes it, while this one computes and writes the next piece and waits for the disk.

    Args:
        path: The file; its folder must be there.
        pieces: Each stays as it is until the next but one is asked for.
    """
    sha256 = hashlib.sha256()
    with replacing(path) as file, flushing_early(file) as write:
        for piece in in_second_thread(sha256.update, pieces):
            write(piece)
    return sha256.digest()


def in_pieces(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield ``data`` from its start, a MiB at a time and not copied."""
    view = memoryview(data)
    for start in range(0, len(view), _PIECE_BYTES):
        yield view[start : start + _PIECE_BYTES]


@contextmanager
def flushing_early(
    file: BinaryIO, *, executor: Executor | None = None
) -> Generator[Callable[[Buffer], object]]:
    """Yield a function that writes to ``file``, much of which is flushed before the last of it is written.

    A second thread does that while the rest is still being computed and written, so that the disk and the
    processor work at the same time. Afterwards the file must still be flushed: what is left takes less time.

    Args:
        file: Opened for writing; nobody else writes to it meanwhile.
        executor: Whose threads flush, where many files are written at once; by default one of its own.

    Raises:
        OSError: The file cannot be written or flushed.
    """
    flushing: list[Future[None]] = []
    with ExitStack() as ending:
        flushers = executor or ending.enter_context(ThreadPoolExecutor(1, thread_name_prefix="edgeml-sync"))
        num_waiting = 0

        def write(data: Buffer) -> None:
            nonlocal num_waiting
            write_all(file, data)
            num_waiting += memoryview(data).nbytes
            if num_waiting >= _FLUSH_BYTES and all(flush.done() for flush in flushing):
                num_waiting = 0
                file.flush()
                flushing.append(flushers.submit(sync_content, file))

        ending.callback(wait, flushing)  # whatever happens: the file is closed after this
        yield write
    for flush in flushing:
        flush.result()


def write_all(file: BinaryIO, data: Buffer) -> None:
    """Write all of ``data``: a file without a buffer may take a part of it, on a disk that is nearly full.

    Raises:
        OSError: The rest cannot be written.
    """
    left = memoryview(data).cast("B")
    while left:
        left = left[file.write(left) :]


def sync_content(file: BinaryIO) -> None:
    """Flush the content of a file, and its length, to the disk."""
    getattr(os, "fdatasync", os.fsync)(file.fileno())


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
