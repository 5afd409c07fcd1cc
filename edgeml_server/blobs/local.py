"""Files in a folder of this machine: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from typing_extensions import override

from edgeml_client.clock import Clock, SystemClock
from edgeml_client.durable import flushing_early, sync_folder
from edgeml_server.blobs.store import BlobStore, BlobWriter, StoredBlob, check_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LocalBlobStore"]


_LEFTOVER_S: Final = 24 * 3600.0
"""What nobody has written to for so long, nobody writes to any more."""

_MAX_FLUSHERS: Final = 4
"""Threads that flush what is written, for all writers together: a disk takes no more at a time."""


class LocalBlobStore(BlobStore):
    """A folder of files named by their digest.

    A crash at any moment leaves either the whole file or a leftover in ``incoming/``, never half a file
    under a digest. Leftovers that nobody has written to for a day are removed when the store is opened: other
    processes may be writing to younger ones.

    Args:
        root: The folder; created if absent.
        clock: Tells how old a leftover is.
    """

    def __init__(self, root: Path, *, clock: Clock | None = None) -> None:
        self._root: Final = root
        self._incoming: Final = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._flushers: Final = ThreadPoolExecutor(_MAX_FLUSHERS, thread_name_prefix="edgeml-sync")
        _remove_older(self._incoming, last_written_s=(clock or SystemClock()).now().timestamp() - _LEFTOVER_S)

    @override
    def writer(self) -> BlobWriter:
        return _LocalBlobWriter(self._root, self._incoming, flushers=self._flushers)

    @override
    def put(self, chunks: Iterable[bytes | memoryview]) -> StoredBlob:
        writer = self.writer()
        try:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()
        finally:
            writer.discard()

    @override
    def open(self, digest: str) -> BinaryIO:
        return _place(self._root, digest).open("rb")

    @override
    def path(self, digest: str) -> Path:
        path = _place(self._root, digest)
        if not path.is_file():
            raise FileNotFoundError(path)
        return path

    @override
    def size(self, digest: str) -> int:
        return _place(self._root, digest).stat().st_size

    @override
    def exists(self, digest: str) -> bool:
        return _place(self._root, digest).is_file()

    @override
    def delete(self, digest: str) -> None:
        _place(self._root, digest).unlink(missing_ok=True)

    @override
    def ping(self) -> None:
        with tempfile.TemporaryFile(dir=self._incoming):
            pass


class _LocalBlobWriter(BlobWriter):
    def __init__(self, root: Path, incoming: Path, *, flushers: Executor) -> None:
        self._root = root
        handle, name = tempfile.mkstemp(dir=incoming)
        # Without a buffer: on a full disk, what is left in one would make closing fail.
        self._file = os.fdopen(handle, "wb", buffering=0)
        self._temporary = Path(name)
        self._sha256 = hashlib.sha256()
        self._num_bytes = 0
        self._flushing = ExitStack()
        self._append = self._flushing.enter_context(flushing_early(self._file, executor=flushers))

    @property
    @override
    def num_bytes(self) -> int:
        return self._num_bytes

    @property
    @override
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"

    @override
    def write(self, chunk: bytes | memoryview) -> None:
        self._append(chunk)
        self._sha256.update(chunk)
        self._num_bytes += len(chunk)

    @override
    def peek(self) -> Path:
        return self._temporary

    @override
    def commit(self) -> StoredBlob:
        self._flushing.close()
        os.fsync(self._file.fileno())
        self._file.close()
        blob = StoredBlob(self.digest, self._num_bytes)
        target = _place(self._root, blob.digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._temporary.replace(target)
        # The new name, and the folder that may be new itself, must survive a power cut too.
        for folder in (target.parent, target.parent.parent):
            sync_folder(folder)
        return blob

    @override
    def discard(self) -> None:
        with ExitStack() as ending:
            ending.callback(self._temporary.unlink, missing_ok=True)
            ending.callback(self._file.close)
            self._flushing.close()


def _remove_older(folder: Path, *, last_written_s: float) -> None:
    for leftover in folder.iterdir():
        with suppress(FileNotFoundError):  # its writer, or another process that starts, was faster
            if leftover.stat().st_mtime < last_written_s:
                leftover.unlink()


def _place(root: Path, digest: str) -> Path:
    name = check_digest(digest).removeprefix("sha256:")
    return root / "sha256" / name[:2] / name
