"""Updates on their way: on disk before they are sent, and until the control plane holds them.

An update that took an hour of training survives a lost network, a crash and a power cut. It is written to a
temporary file, flushed to the disk, renamed, and the folder is flushed too; only then is it sent. What the
control plane refuses for good moves to ``rejected/``, so that it can be looked at and is not sent again; what
it carried of earlier rounds is kept for the next update.

With error feedback two files change together: the update, and the residual that it leaves. The update is
written as ``*.prepared`` first; then the residual, which names the update's digest, is committed, and that
decides; then the update gets its name. Whoever finds a ``*.prepared`` update looks whether the residual names
it: if so it is sent, and if not it never will be.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from filelock import FileLock, Timeout

from edgeml_client.durable import PART_SUFFIX, in_pieces, sync_folder, write_digested
from edgeml_client.errors import ConfigurationError, InvalidUpdateError, OutboxBusyError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.coding.left_out import LeftOut
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.coding.residual_slot import ResidualMark
from edgeml_client.updates.paths import path_segment
from edgeml_client.updates.streamed_update import StreamedUpdate, UpdateData
from edgeml_client.updates.update_file import read_update_header

__all__ = ["Outbox", "PendingUpdate", "path_segment"]

_LOG = logging.getLogger(__name__)

_SUFFIX: Final = ".update"
_PREPARED: Final = ".prepared"
_ERROR_FEEDBACK: Final = "error_feedback"
"""How an update's audit trail calls the filter that leaves a residual."""
_REJECTED: Final = "rejected"
_MAX_REJECTED: Final = 16
_WRITE_TIMEOUT_S: Final = 60.0


FileStamp: TypeAlias = tuple[int, int, int]
"""Inode, time of the last change, and size: a file is only ever replaced as a whole, by a new one."""


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An update that waits in the outbox.

    Attributes:
        path: Its file.
        header: Its envelope.
        num_bytes: The size of the file.
        sha256: The SHA-256 of the file, 32 bytes.
        stamp: Tells this file from any other that has had its name.
    """

    path: Path
    header: UpdateHeader
    num_bytes: int
    sha256: bytes
    stamp: FileStamp

    @property
    def idempotency_key(self) -> str:
        """What makes sending it twice count once: round, device and content, fit for a header."""
        named = f"{self.header.round_id}\0{self.header.device_id}\0".encode()
        return hashlib.sha256(named + self.sha256).hexdigest()


class Outbox:
    """The updates of one device that the control plane does not hold yet.

    Args:
        folder: Created at the first update. One folder belongs to one device.
        residuals: Where this device keeps what its updates leave out; by default beside the updates.
    """

    def __init__(self, folder: Path, *, residuals: ResidualStore | None = None) -> None:
        self.folder = folder
        self.residuals = residuals or ResidualStore(folder)

    def put(self, data: UpdateData, *, left_out: LeftOut | None = None) -> PendingUpdate:
        """Store an update file for good, in place of an older one of the same round; then return it.

        Args:
            data: The update file.
            left_out: What the update leaves for the next round to send; it replaces the residual of the
                model in the same step, so that there are both or neither.

        Raises:
            InvalidUpdateError: ``data`` is no update file.
            OutboxBusyError: Another process holds the folder for more than a minute.
            ConfigurationError: The folder cannot be written, or the disk is full.
        """
        if isinstance(data, StreamedUpdate):
            header, num_bytes, pieces = data.header, data.num_bytes, data.pieces()
        else:
            header, num_bytes, pieces = read_update_header(data), len(data), in_pieces(data)
        path = self.folder / f"{path_segment(header.round_id)}{_SUFFIX}"
        try:
            self._make_folder()
            with self._lock("write", timeout_s=_WRITE_TIMEOUT_S):
                if left_out is None:
                    sha256 = write_digested(path, pieces)
                else:
                    sha256 = self._put_both(path, header, pieces, left_out)
                return PendingUpdate(path, header, num_bytes, sha256, _stamp_of(path))
        except OSError as exc:
            raise ConfigurationError(
                f"the update cannot be stored in {self.folder}: {exc.strerror or exc}; make room, or pass a "
                "writable folder as state_dir"
            ) from exc

    def _put_both(
        self, path: Path, header: UpdateHeader, pieces: Iterable[memoryview], left_out: LeftOut
    ) -> bytes:
        self._settle()
        sha256 = write_digested(path.with_suffix(_PREPARED), pieces)
        mark = ResidualMark(
            model_id=header.model_id,
            round_id=header.round_id,
            base_digest=header.base_digest,
            update_digest=f"sha256:{sha256.hex()}",
        )
        try:
            self.residuals.stage(left_out, mark).commit()
        finally:
            self._settle()
        return sha256

    def _settle(self) -> None:
        """Give prepared updates their name if their residual counts, and remove the others."""
        for prepared in self.folder.glob(f"*{_PREPARED}"):
            if self._is_committed(prepared):
                prepared.replace(prepared.with_suffix(_SUFFIX))
            else:
                prepared.unlink()

    def _is_committed(self, prepared: Path) -> bool:
        try:
            model_id = read_update_header(prepared).model_id
        except InvalidUpdateError as exc:
            _LOG.warning("the prepared update %s cannot be read and is not sent: %s", prepared, exc)
            return False
        mark = self.residuals.find_mark(model_id)
        return mark is not None and mark.update_digest == f"sha256:{_sha256_of(prepared).hex()}"

    def pending(self) -> tuple[PendingUpdate, ...]:
        """Return what waits, the oldest first; files that are no updates are set aside with a warning.

        Raises:
            OutboxBusyError: Another process holds the folder for more than a minute.
        """
        if not self.folder.is_dir():
            return ()
        with self._lock("write", timeout_s=_WRITE_TIMEOUT_S):
            for leftover in self.folder.glob(f"*{PART_SUFFIX}"):
                leftover.unlink(missing_ok=True)
            self._settle()
            paths = sorted(self.folder.glob(f"*{_SUFFIX}"), key=_age_order)
        found = (self._read(path) for path in paths)
        return tuple(update for update in found if update is not None)

    def remove(self, update: PendingUpdate) -> None:
        """Forget an update that the control plane holds; a newer one of the same round stays.

        One of the same round that was refused before is forgotten too.

        A power cut may bring it back. Sent again it still counts once, so this is not flushed to the disk.
        """
        with self._lock("write", timeout_s=_WRITE_TIMEOUT_S):
            (self.folder / _REJECTED / update.path.name).unlink(missing_ok=True)
            if _holds(update):
                update.path.unlink()

    def holds_rejected(self, round_id: str) -> bool:
        """Return whether an update of a round was refused, and none of that round was accepted later."""
        return (self.folder / _REJECTED / f"{path_segment(round_id)}{_SUFFIX}").exists()

    def refuse(self, update: PendingUpdate, *, reason: str) -> Path | None:
        """Reject an update that the control plane refused for good, if it still lies here; return where.

        The residual that it left behind is taken back, so that what it carried of earlier rounds is not lost
        with it. If another update was made since, it is, and a warning says so.
        """
        digest = f"sha256:{update.sha256.hex()}"
        model_id = update.header.model_id
        with self._lock("write", timeout_s=_WRITE_TIMEOUT_S):
            if not _holds(update):
                return None
            if self.residuals.take_back(model_id, update_digest=digest):
                _LOG.info("what earlier updates of model %r left out is kept for the next one", model_id)
            elif _has_error_feedback(update.header) and self.residuals.find_mark(model_id) is not None:
                _LOG.warning(
                    "what update %s carried of earlier rounds is lost: another update was made since",
                    update.path.name,
                )
        return self.reject(update.path, reason=reason)

    def reject(self, path: Path, *, reason: str) -> Path:
        """Move an update to ``rejected/``, of which the newest sixteen are kept; return where it lies."""
        target = self.folder / _REJECTED / path.name
        with self._lock("write", timeout_s=_WRITE_TIMEOUT_S):
            target.parent.mkdir(exist_ok=True, mode=0o700)
            path.replace(target)
            for old in sorted(target.parent.iterdir(), key=_age_order)[:-_MAX_REJECTED]:
                old.unlink(missing_ok=True)
        _LOG.warning("an update will not be sent again, it lies in %s: %s", target, reason)
        return target

    @contextmanager
    def sending(self, *, timeout_s: float) -> Generator[None]:
        """Hold the right to send from this outbox, across threads and processes.

        Raises:
            OutboxBusyError: Another process or thread is sending, and ``timeout_s`` seconds are over.
        """
        self._make_folder()
        with self._lock("send", timeout_s=timeout_s):
            yield

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync_folder(self.folder.parent)

    def _read(self, path: Path) -> PendingUpdate | None:
        try:
            header = read_update_header(path)
            stamp = _stamp_of(path)
            sha256 = _sha256_of(path)
        except FileNotFoundError:
            return None  # another process has sent it meanwhile
        except InvalidUpdateError as exc:
            self.reject(path, reason=str(exc))
            return None
        return PendingUpdate(path, header, stamp[-1], sha256, stamp)

    @contextmanager
    def _lock(self, purpose: str, *, timeout_s: float) -> Generator[None]:
        try:
            with FileLock(self.folder / f".{purpose}.lock", timeout=timeout_s):
                yield
        except Timeout as exc:
            raise OutboxBusyError(
                f"another process or thread is using the outbox {self.folder}; one device runs once at a time"
            ) from exc


def _has_error_feedback(header: UpdateHeader) -> bool:
    return any(entry.get("type") == _ERROR_FEEDBACK for entry in header.filters)


def _sha256_of(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _stamp_of(path: Path) -> FileStamp:
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _holds(update: PendingUpdate) -> bool:
    try:
        return _stamp_of(update.path) == update.stamp
    except FileNotFoundError:
        return False


def _age_order(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, path.name
    except FileNotFoundError:
        return 0, path.name
