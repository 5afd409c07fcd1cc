"""Where a training is in its data, so that one that goes on from a checkpoint reads the next batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L

from edgeml_lightning.randomness import RandomState, capture_randomness, restore_randomness_

__all__ = ["BatchPlace"]


@dataclass(slots=True)
class BatchPlace:
    """How many batches of a pass over the data were trained on, and where the streams stood before the pass.

    Lightning goes on at the right number but from the first batch of a new order, unless the loader keeps its
    own state. The order follows from where the streams stood, so it is drawn again and read up to the place.

    Attributes:
        began: Where the streams stood before the data was put into order; ``None`` between two passes.
        num_batches: Batches trained on since.
    """

    began: RandomState | None = None
    num_batches: int = 0
    _now: RandomState | None = None
    _is_between: bool = False

    @classmethod
    def at_start(cls, began: RandomState) -> BatchPlace:
        """Return the place before the first batch."""
        return cls(began)

    @classmethod
    def from_checkpoint(cls, saved: Mapping[str, Any]) -> BatchPlace:
        """Return the place that :meth:`to_checkpoint` wrote."""
        began = saved["pass_began"]
        return cls(
            None if began is None else RandomState.put_together(*began),
            saved["num_batches"],
            RandomState.put_together(*saved["now"]),
        )

    def to_checkpoint(self, now: RandomState) -> dict[str, Any]:
        """Return it, and where the streams stand now, as plain numbers and tensors."""
        return {
            "pass_began": None if self.began is None else self.began.taken_apart(),
            "num_batches": self.num_batches,
            "now": now.taken_apart(),
        }

    def start_pass_(self, trainer: L.Trainer) -> None:
        """Begin a pass, unless Lightning put the data into an order before: in the first epoch of a Trainer.

        After a checkpoint between two passes it has done so too, but too early: it is done again.
        """
        if self._is_between or _is_drawn_again(trainer):
            self.began, self.num_batches = capture_randomness(), 0
        if self._is_between and not _is_drawn_again(trainer):
            iter(_fetcher_of(trainer))
        self._is_between = False

    def restore_start_(self) -> None:
        """Put the streams to before the pass, or where there is none, to where they stood."""
        start = self.began or self._now
        if start is not None:
            restore_randomness_(start)

    def catch_up_(self, trainer: L.Trainer) -> None:
        """Read the batches that were trained on, then put the streams to where they stood after them."""
        if self._now is None:
            return
        fetcher = _fetcher_of(trainer)
        if self.began is None:
            self._is_between = True
        elif not fetcher.combined_loader._state_dicts():  # noqa: SLF001 - a loader that keeps its place has a state
            for _ in range(self.num_batches):
                next(fetcher)
            fetcher.fetched -= self.num_batches  # Lightning adds them itself
        if trainer.world_size == 1:
            restore_randomness_(self._now)
        self._now = None


def _is_drawn_again(trainer: L.Trainer) -> bool:
    """Return whether Lightning puts the data into a new order once the epoch has started."""
    loop = trainer.fit_loop
    return trainer.current_epoch > 0 and not loop.is_resuming and not loop.epoch_loop.restarting


def _fetcher_of(trainer: L.Trainer) -> Any:  # noqa: ANN401 - Lightning's own, untyped
    return vars(trainer.fit_loop)["_data_fetcher"]
