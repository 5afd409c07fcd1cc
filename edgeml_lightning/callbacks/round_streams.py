"""The random streams of a round: a round that begins again, or goes on, draws what it would have drawn."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import lightning as L
import torch
from pydantic import JsonValue
from torch import Tensor

from edgeml_lightning.callbacks.batch_place import BatchPlace
from edgeml_lightning.errors import PersonalStateError, PersonalStoreError
from edgeml_lightning.personalization import Mark, PersonalKey, PersonalStore, RoundMarks
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


@dataclass(frozen=True, slots=True)
class _Files:
    store: PersonalStore
    key: PersonalKey


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

    def begin(
        self,
        trainer: L.Trainer,
        ranks: Ranks,
        *,
        files: tuple[PersonalStore, PersonalKey] | None,
        round_id: str,
    ) -> None:
        """Begin a round: from where it began before, if it did, and from where the streams stand otherwise.

        Args:
            trainer: The user's Trainer.
            ranks: The processes that train together; each has streams of its own.
            files: Where marks are kept; looked at in the first process alone.
            round_id: The round.
        """
        now = Mark(capture_randomness(), *self._carried.packed())
        here = RoundMarks(round_id, torch.initial_seed(), self._process, began=now)
        everywhere = ranks.gather(here)

        def settle() -> list[tuple[RoundMarks, bool]]:
            return _settled(_Files(*files), everywhere) if files is not None else []

        settled = ranks.on_first(settle)
        self._marks, is_moved = settled[trainer.global_rank]
        mine, firsts = self._marks.began, settled[0][0].began
        if is_moved:
            restore_randomness_(mine.randomness)
        if any(is_any_moved for _, is_any_moved in settled):
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
        """Return the marks of all processes at the end of training, for :meth:`keep`."""
        if self._marks is None:
            return ()
        ended = Mark(capture_randomness(), *self._carried.packed())
        return ranks.gather(replace(self._marks, ended=ended))

    @staticmethod
    def keep(marks: Sequence[RoundMarks], *, store: PersonalStore, key: PersonalKey) -> None:
        """Write what :meth:`end` returned."""
        for rank, mark in enumerate(marks):
            _save(_Files(store, key), mark, rank=rank)

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


def _settled(files: _Files, here: Sequence[RoundMarks]) -> list[tuple[RoundMarks, bool]]:
    """Return the marks to begin with, by rank, and whether they are elsewhere than the process stands."""
    found = _of_one_round([_find(files, rank=rank) for rank in range(len(here))], round_id=here[0].round_id)
    settled = [_settle(files, mine, found[rank], rank=rank) for rank, mine in enumerate(here)]
    if any(is_moved for _, is_moved in settled):
        _log.info(
            "%s: random streams are those with which it began, or the round before it ended", here[0].round_id
        )
    return settled


def _of_one_round(found: Sequence[RoundMarks | None], *, round_id: str) -> list[RoundMarks | None]:
    """Return the marks without those of processes that were not there in the last round of the first.

    A round that was cut off when it began may have been marked by the first alone; then the others' marks are
    of the round before it.
    """
    last = found[0].round_id if found[0] is not None else None
    return [marks if marks is None or last in {marks.round_id, round_id} else None for marks in found]


def _settle(
    files: _Files, here: RoundMarks, found: RoundMarks | None, *, rank: int
) -> tuple[RoundMarks, bool]:
    start = None
    if found is not None:
        start = found.to_start_from(round_id=here.round_id, seed=here.seed, process=here.process)
    marks = replace(here, began=start) if start is not None else here
    if found is None or found.round_id != marks.round_id:
        if not _save(files, marks, rank=rank):
            return here, False  # unsigned, the old end would be the start of every round to come
    elif found.process != marks.process:
        _save(files, replace(found, process=marks.process), rank=rank)
    return marks, start is not None


def _find(files: _Files, *, rank: int) -> RoundMarks | None:
    try:
        return files.store.find_marks(files.key, rank=rank)
    except PersonalStateError as exc:
        _log.warning("this round draws fresh random numbers: %s", exc)
        return None


def _save(files: _Files, marks: RoundMarks, *, rank: int) -> bool:
    try:
        files.store.save_marks(files.key, marks, rank=rank)
    except PersonalStoreError as exc:
        _log.warning("%s: if this process ends, it is not run again exactly: %s", marks.round_id, exc)
        return False
    return True
