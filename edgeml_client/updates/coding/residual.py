"""What updates left out so far, kept on the device until the next round can send it.

The residual of error feedback (Seide et al., 2014, section 4; Karimireddy et al., 2019,
https://arxiv.org/abs/1901.09847, Algorithm 1). Each model has two slots, which are written in turn: first the
numbers, flushed to the disk, then a header with the next sequence number, checksums of itself and of the
numbers, and the digest of the update after which this residual remained. Writing the header is the one step
that decides. A crash before it leaves the former residual in the other slot; a crash within it leaves a
header whose checksum is wrong, which is the same. Slots keep their place on the disk, so that flushing one
costs no more than its numbers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import weakref
import zlib
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from pydantic import ValidationError

from edgeml_client.durable import flushing_early, sync_content, sync_folder, write_all
from edgeml_client.errors import InvalidUpdateError, RoundStateError
from edgeml_client.schemas import WireBody
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.left_out import LeftOut
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.mapped_file import read_into
from edgeml_client.updates.paths import path_segment
from edgeml_client.updates.vector import BLOCK

__all__ = ["KeptResidual", "ResidualMark", "ResidualStore", "StagedResidual"]

_LOG = logging.getLogger(__name__)

_SLOTS: Final = ("a", "b")
_MAGIC: Final = b"edgeml residual\n"
_HEADER_BYTES: Final = 1 << 14
_CRC_BYTES: Final = 4
_LARGEST_CRC32: Final = 2**32 - 1
_PIECE_BYTES: Final = 1 << 20


class ResidualMark(WireBody):
    """Which update left a residual behind.

    Attributes:
        model_id: The model.
        round_id: The round of the update.
        base_digest: The global model that the update was computed against.
        update_digest: ``sha256:<hex>`` of the update file.
    """

    model_id: str
    round_id: str
    base_digest: str
    update_digest: str


class _SlotHeader(WireBody):
    sequence: int
    layout_digest: str
    numbers_crc32: int
    mark: ResidualMark


@dataclass(frozen=True, slots=True)
class StagedResidual:
    """A residual whose numbers lie on the disk; it counts once it is committed."""

    _path: Path
    _header: _SlotHeader

    def commit(self) -> None:
        """Make it the residual of its model, in place of the former one, for good."""
        with _open_slot(self._path) as stream:
            write_all(stream, _packed(self._header))
            sync_content(stream)


class KeptResidual:
    """The residual of a model as a round finds it; :meth:`ResidualStore.open` gives one.

    Attributes:
        sequence: Its number among the residuals of the model; 0 if there was none yet.
        is_empty: Whether there is nothing to add.
    """

    def __init__(self, sequence: int, path: Path | None = None) -> None:
        self.sequence = sequence
        self.is_empty = path is None
        self._scratch = np.empty(0 if path is None else BLOCK, np.dtype("<f4"))
        if path is not None:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            weakref.finalize(self, os.close, descriptor)
            self._stream = FileIO(descriptor, closefd=False)

    def add_to_(self, target: Float32Array, *, start: int) -> None:
        """Add the numbers from position ``start`` on to ``target``, which is flat.

        Raises:
            OSError: They cannot be read any more.
        """
        if self.is_empty:
            return
        self._stream.seek(_HEADER_BYTES + start * self._scratch.itemsize)
        for first in range(0, target.size, BLOCK):
            block = target[first : first + BLOCK]
            kept = self._scratch[: block.size]
            read_into(self._stream, kept.data.cast("B"))
            block += kept


class ResidualStore:
    """The residuals of one device; one process at a time may write.

    Args:
        folder: Created at the first residual. One folder belongs to one device.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_mark(self, model_id: str) -> ResidualMark | None:
        """Return which update left the residual of a model; ``None`` if there is no residual."""
        current = self._current(model_id)
        return None if current is None else current[1].mark

    def open(self, layout: Layout, *, model_id: str, round_id: str) -> KeptResidual:
        """Return the residual of a model, to be added to the delta of a round.

        A residual of other arrays, or one that the disk did not keep as it was, is left alone with a warning:
        the update that follows replaces it.

        Args:
            layout: The float32 arrays of the delta.
            model_id: The model.
            round_id: The round.

        Raises:
            RoundStateError: The residual remained after an update of this very round: what it made up for is
                in that update, and adding it again would send it twice.
        """
        current = self._current(model_id)
        if current is None:
            return KeptResidual(0)
        path, header = current
        if header.mark.round_id == round_id:
            raise RoundStateError(
                f"this device already made its update for round {round_id!r}; call flush_outbox() to send it"
            )
        problem = _problem_with(path, header, layout)
        if problem is not None:
            _LOG.warning("what earlier updates of model %r left out is dropped: %s", model_id, problem)
            return KeptResidual(header.sequence)
        return KeptResidual(header.sequence, path)

    def take_back(self, model_id: str, *, update_digest: str) -> bool:
        """Return to the former residual of a model if the present one remained after this very update.

        What an update carried of earlier rounds is then kept again; its own round is lost. An update that
        another one followed has no way back: the residual of that one builds on it.

        Args:
            model_id: The model.
            update_digest: ``sha256:<hex>`` of an update that nobody holds, and nobody ever will.

        Returns:
            Whether it did.
        """
        current = self._current(model_id)
        if current is None or current[1].mark.update_digest != update_digest:
            return False
        with _open_slot(current[0]) as stream:
            write_all(stream, bytes(len(_MAGIC)))
            sync_content(stream)
        return True

    def stage(self, left_out: LeftOut, mark: ResidualMark) -> StagedResidual:
        """Write the numbers of a residual to the disk and flush them; they count once committed.

        Args:
            left_out: What the update left out, after it made up for the residual before.
            mark: The update.

        Raises:
            InvalidUpdateError: The names in ``mark`` are too long to be kept.
            RoundStateError: Another update has made up for that one meanwhile: with both, it would be
                sent twice.
        """
        current = self._current(mark.model_id)
        latest = 0 if current is None else current[1].sequence
        if left_out.follows != latest:
            raise RoundStateError(
                f"another update of model {mark.model_id!r} was made on this device meanwhile, and sends "
                "what earlier ones left out; one device takes part in one round of a model at a time"
            )
        header = _SlotHeader(
            sequence=latest + 1,
            layout_digest=_layout_digest(left_out.layout),
            numbers_crc32=_LARGEST_CRC32,
            mark=mark,
        )
        if len(_packed(header)) > _HEADER_BYTES:
            raise InvalidUpdateError("the ids of model and round are too long to keep a residual for them")
        path = self._path(mark.model_id, _SLOTS[header.sequence % 2])
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            sync_folder(self.folder)
        crc32 = _write_numbers(path, left_out)
        return StagedResidual(path, header.model_copy(update={"numbers_crc32": crc32}))

    def _current(self, model_id: str) -> tuple[Path, _SlotHeader] | None:
        """Return the slot that counts, and its header."""
        found = [
            (path, header)
            for path in (self._path(model_id, slot) for slot in _SLOTS)
            if (header := _read_header(path)) is not None
        ]
        return max(found, key=lambda slot: slot[1].sequence, default=None)

    def _path(self, model_id: str, slot: str) -> Path:
        return self.folder / f"{path_segment(model_id)}.{slot}.residual"


def _open_slot(path: Path) -> BinaryIO:
    return path.open("r+b", buffering=0)


def _write_numbers(path: Path, left_out: LeftOut) -> int:
    """Write the numbers of a slot and flush them; return their CRC-32."""
    crc32 = 0
    with _open_slot(path) as stream:
        stream.seek(_HEADER_BYTES)
        with flushing_early(stream) as write:
            for block in left_out.blocks():
                data = block.astype("<f4", copy=False).data
                crc32 = zlib.crc32(data, crc32)
                write(data)
        stream.truncate()
        sync_content(stream)
    return crc32


def _problem_with(path: Path, header: _SlotHeader, layout: Layout) -> str | None:
    """Return why the numbers of a slot cannot be added to a delta; ``None`` if they can."""
    if header.layout_digest != _layout_digest(layout):
        return "it has other arrays than this update"
    num_bytes, expected = path.stat().st_size, _HEADER_BYTES + layout.num_bytes
    if num_bytes != expected:
        return f"its file {path} has {num_bytes} bytes and should have {expected}"
    if _crc32_of_numbers(path) != header.numbers_crc32:
        return f"its file {path} is damaged, the numbers in it do not match their checksum"
    return None


def _crc32_of_numbers(path: Path) -> int:
    crc32 = 0
    with path.open("rb", buffering=0) as stream:
        stream.seek(_HEADER_BYTES)
        while data := stream.read(_PIECE_BYTES):
            crc32 = zlib.crc32(data, crc32)
    return crc32


def _packed(header: _SlotHeader) -> bytes:
    text = header.model_dump_json().encode()
    length = len(text).to_bytes(4, "little")
    return _MAGIC + zlib.crc32(length + text).to_bytes(_CRC_BYTES, "little") + length + text


def _read_header(path: Path) -> _SlotHeader | None:
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
    except FileNotFoundError:
        return None
    start = len(_MAGIC) + _CRC_BYTES
    length = int.from_bytes(head[start : start + 4], "little")
    covered = head[start : start + 4 + length]
    if head[: len(_MAGIC)] != _MAGIC or zlib.crc32(covered).to_bytes(4, "little") != head[start - 4 : start]:
        return None  # it was being written when the process died, or never was
    try:
        return _SlotHeader.model_validate_json(covered[4:])
    except ValidationError:
        _LOG.warning("the residual %s was written by another version and is not used", path)
        return None


def _layout_digest(layout: Layout) -> str:
    return hashlib.sha256(json.dumps(layout.to_json()).encode()).hexdigest()
