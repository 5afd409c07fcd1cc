"""The marks of rounds on the disk: where each process of a training begins the next one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeml_lightning.errors import PersonalStateError, PersonalStoreError
from edgeml_lightning.personalization import PersonalKey, PersonalStore, RoundMarks

__all__ = ["KeptMarks", "RoundStart"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RoundStart:
    """Where a process begins a round.

    Attributes:
        marks: The marks to begin with.
        is_elsewhere: Whether the process stands somewhere else, and has to be moved there.
    """

    marks: RoundMarks
    is_elsewhere: bool


@dataclass(frozen=True, slots=True)
class KeptMarks:
    """The marks of the processes that train together, in the order of their ranks.

    Trouble with the store costs exactness and not the round: a warning says so.

    Attributes:
        store: Where they lie.
        key: Whose rounds of which model they are of.
    """

    store: PersonalStore
    key: PersonalKey

    def save(self, marks: Sequence[RoundMarks]) -> None:
        """Write the marks of all processes."""
        for rank, mark in enumerate(marks):
            self._save(mark, rank=rank)

    def starts_of(self, here: Sequence[RoundMarks]) -> list[RoundStart]:
        """Return where each process begins a round; afterwards that is on the disk, signed by it.

        Args:
            here: The marks of each process where it stands now.
        """
        found = [self._find(rank=rank) for rank in range(len(here))]
        of_one_round = _of_one_round(found, round_id=here[0].round_id)
        starts = [self._start(mine, of_one_round[rank], rank=rank) for rank, mine in enumerate(here)]
        if any(start.is_elsewhere for start in starts):
            _log.info(
                "%s: random streams are those with which it began, or the round before it ended",
                here[0].round_id,
            )
        return starts

    def _start(self, here: RoundMarks, found: RoundMarks | None, *, rank: int) -> RoundStart:
        began = None
        if found is not None:
            began = found.to_start_from(round_id=here.round_id, seed=here.seed, process=here.process)
        marks = replace(here, began=began) if began is not None else here
        if found is None or found.round_id != marks.round_id:
            if not self._save(marks, rank=rank):
                # Unsigned, the old end would be the start of every round to come.
                return RoundStart(here, is_elsewhere=False)
        elif found.process != marks.process:
            self._save(replace(found, process=marks.process), rank=rank)
        return RoundStart(marks, is_elsewhere=began is not None)

    def _find(self, *, rank: int) -> RoundMarks | None:
        try:
            return self.store.find_marks(self.key, rank=rank)
        except PersonalStateError as exc:
            _log.warning("this round draws fresh random numbers: %s", exc)
            return None

    def _save(self, marks: RoundMarks, *, rank: int) -> bool:
        try:
            self.store.save_marks(self.key, marks, rank=rank)
        except PersonalStoreError as exc:
            _log.warning("%s: if this process ends, it is not run again exactly: %s", marks.round_id, exc)
            return False
        return True


def _of_one_round(found: Sequence[RoundMarks | None], *, round_id: str) -> list[RoundMarks | None]:
    """Return the marks without those of processes that were not there in the last round of the first.

    A round that was cut off when it began may have been marked by the first alone; then the others' marks are
    of the round before it.
    """
    last = found[0].round_id if found[0] is not None else None
    return [marks if marks is None or last in {marks.round_id, round_id} else None for marks in found]
