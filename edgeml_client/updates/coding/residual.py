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

import logging
import os
import weakref
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

import numpy as np

from edgeml_client.errors import InvalidUpdateError, RoundStateError
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.left_out import LeftOut
from edgeml_client.updates.coding.residual_slot import NUMBERS_START, ResidualMark, ResidualSlot, SlotHeader
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.mapped_file import read_into
from edgeml_client.updates.paths import path_segment
from edgeml_client.updates.vector import BLOCK

__all__ = ["KeptResidual", "ResidualStore", "StagedResidual"]

_LOG = logging.getLogger(__name__)

_SLOTS: Final = ("a", "b")
_LARGEST_CRC32: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class StagedResidual:
    """A residual whose numbers lie on the disk; it counts once it is committed."""

    _slot: ResidualSlot
    _header: SlotHeader

    def commit(self) -> None:
        """Make it the residual of its model, in place of the former one, for good."""
        self._slot.write_header(self._header)


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
        self._stream.seek(NUMBERS_START + start * self._scratch.itemsize)
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
        slot, header = current
        if header.mark.round_id == round_id:
            raise RoundStateError(
                f"this device already made its update for round {round_id!r}; call flush_outbox() to send it"
            )
        problem = slot.find_problem(header, layout)
        if problem is not None:
            _LOG.warning("what earlier updates of model %r left out is dropped: %s", model_id, problem)
            return KeptResidual(header.sequence)
        return KeptResidual(header.sequence, slot.path)

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
        current[0].clear()
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
        header = SlotHeader.of(left_out.layout, sequence=latest + 1, numbers_crc32=_LARGEST_CRC32, mark=mark)
        if len(header.packed()) > NUMBERS_START:
            raise InvalidUpdateError("the ids of model and round are too long to keep a residual for them")
        slot = self._slot(mark.model_id, _SLOTS[header.sequence % 2])
        crc32 = slot.write_numbers(left_out)
        return StagedResidual(slot, header.model_copy(update={"numbers_crc32": crc32}))

    def _current(self, model_id: str) -> tuple[ResidualSlot, SlotHeader] | None:
        """Return the slot that counts, and its header."""
        found = [
            (slot, header)
            for slot in (self._slot(model_id, name) for name in _SLOTS)
            if (header := slot.find_header()) is not None
        ]
        return max(found, key=lambda slot: slot[1].sequence, default=None)

    def _slot(self, model_id: str, name: str) -> ResidualSlot:
        return ResidualSlot(self.folder / f"{path_segment(model_id)}.{name}.residual")
