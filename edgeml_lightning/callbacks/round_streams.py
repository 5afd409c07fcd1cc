"""The random streams of a round: a round that begins again, or goes on, draws what it would have drawn."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import lightning as L
import torch
from pydantic import JsonValue
from torch import Tensor

from edgeml_lightning.callbacks.batch_place import BatchPlace
from edgeml_lightning.callbacks.kept_marks import KeptMarks
from edgeml_lightning.personalization import Mark, RoundMarks
from edgeml_lightning.randomness import capture_randomness, restore_randomness_

if TYPE_CHECKING:
    from edgeml_lightning.distributed import Ranks

__all__ = ["Carried", "NothingCarried", "RoundStreams", "this_process"]

_log = logging.getLogger(__name__)

_IMPORTED: Final = uuid.uuid4().hex
"""The same in this process and its forks, and in no other: process ids come again."""


def this_process() -> str:
    """Return what tells this process from all others, earlier ones and forks included."""
    return f"{_IMPORTED}-{os.getpid()}"


class Carried(Protocol):
    """What a trainer of many rounds takes along from round to round, and over restarts."""

    def packed(self) -> tuple[dict[str, JsonValue], dict[str, Tensor]]:
        """Return it as it is now, in plain JSON and in tensors on the CPU.

        Of several processes that train together, the first returns what is the same in all.
        """
        ...

    def unpack_(self, carried: Mapping[str, JsonValue], arrays: Mapping[str, Tensor]) -> None:
        """Put it to what :meth:`packed` returned earlier, perhaps in another process.

        Of several processes, each is given what the first returned, with its own in place of the same names.
        """
        ...


class NothingCarried:
    """A single fit takes nothing along."""

    def packed(self) -> tuple[dict[str, JsonValue], dict[str, Tensor]]:
        """Return nothing."""
        return {}, {}

    def unpack_(self, carried: Mapping[str, JsonValue], arrays: Mapping[str, Tensor]) -> None:
        """Leave everything as it is."""


class RoundStreams:
    """Knows where the random streams stood when a round began, in this process or in one that was killed.

    The mark is on the disk before the first batch. A second mark, where training ended, is written before the
    update is: the next round starts there, should this process not live to begin it.

    Args:
        carried: What else a restart brings back.
        process: Signs the marks, ``None`` for :func:`this_process`: a process never goes on from where it
            itself ended, for there it stands.
    """

    def __init__(self, carried: Carried | None = None, *, process: str | None = None) -> None:
        self._process = process or this_process()
        self._carried: Carried = carried or NothingCarried()
        self._marks: RoundMarks | None = None
        self._place = BatchPlace()

    def begin(self, trainer: L.Trainer, ranks: Ranks, *, kept: KeptMarks | None, round_id: str) -> None:
        """Begin a round: from where it began before, if it did, and from where the streams stand otherwise.

        Args:
            trainer: The user's Trainer.
            ranks: The processes that train together; each has streams of its own.
            kept: The marks on the disk; looked at in the first process alone.
            round_id: The round.
        """
        now = Mark(capture_randomness(), *self._carried.packed())
        here = RoundMarks(round_id, torch.initial_seed(), self._process, began=now)
        everywhere = ranks.gather(here)
        starts = ranks.on_first(lambda: [] if kept is None else kept.starts_of(everywhere))
        start = starts[trainer.global_rank]
        self._marks, mine, firsts = start.marks, start.marks.began, starts[0].marks.began
        if start.is_elsewhere:
            restore_randomness_(mine.randomness)
        if any(each.is_elsewhere for each in starts):
            self._carried.unpack_({**firsts.carried, **mine.carried}, {**firsts.arrays, **mine.arrays})
        self._place = BatchPlace.at_start(mine.randomness)

    def go_on(self, trainer: L.Trainer, saved: Mapping[str, Any] | None) -> None:
        """Go on in the middle of the round, from what :meth:`state` returned for a checkpoint.

        Several processes write one checkpoint, which holds the streams of the first alone: they go on at the
        right batch, but with fresh random numbers.
        """
        if saved is not None:
            try:
                self._place = BatchPlace.from_checkpoint(saved)
            except ValueError as exc:
                _log.warning("this round goes on with fresh random numbers, from a new order: %s", exc)
                return
            if trainer.world_size == 1:
                self._place.restore_start_()

    def state(self) -> dict[str, Any]:
        """Return where the streams stand, and where in the data, for a checkpoint."""
        return self._place.to_checkpoint(capture_randomness())

    def end(self, ranks: Ranks) -> Sequence[RoundMarks]:
        """Return the marks of all processes at the end of training, to be kept before the update is."""
        if self._marks is None:
            return ()
        ended = Mark(capture_randomness(), *self._carried.packed())
        return ranks.gather(replace(self._marks, ended=ended))

    # Where in the data.

    def start_training(self, trainer: L.Trainer) -> None:
        """Pass over the batches that were trained on before the checkpoint."""
        self._place.catch_up_(trainer)

    def start_epoch(self, trainer: L.Trainer) -> None:
        """Remember where the streams stand before the data is drawn in a new order."""
        self._place.start_pass_(trainer)

    def count_batch(self, trainer: L.Trainer) -> None:
        """Count a batch of the current pass over the data; after the last one the pass is over."""
        self._place.num_batches += 1
        if trainer.is_last_batch:
            self._place = BatchPlace()

    def end_epoch(self) -> None:
        """Forget the pass that is over."""
        self._place = BatchPlace()
