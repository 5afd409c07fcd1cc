"""One bar for the rounds, beside the bars that Lightning shows for each fit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol, Self

from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from edgeml_lightning._one_line import headline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import lightning as L

    from edgeml_lightning.callbacks.round_record import RoundRecord

__all__ = ["RoundsProgress", "round_summary"]


def round_summary(record: RoundRecord) -> dict[str, str]:
    """Return the few figures of a round that fit beside a bar.

    The first measurement that is not a loss, or else the loss, of the received and of the personal model.
    """
    found = {
        "received": headline(record.received_metrics),
        "personal": headline(record.personal_metrics),
    }
    return {
        f"{model} {name}": f"{figure:.3g}" for model, pair in found.items() if pair for name, figure in [pair]
    }


class _Bar(Protocol):
    """What is used of a tqdm bar, which has no types of its own."""

    def set_postfix(self, ordered_dict: Mapping[str, str], *, refresh: bool) -> None: ...
    def update(self) -> None: ...
    def close(self) -> None: ...


class RoundsProgress:
    """Shows how many rounds are done, in the way the trainer shows its epochs.

    Beside Lightning's tqdm bars it is one more bar below them; beside any other bar (Rich's, a user's own)
    it is a line a round, written through that bar; without a bar it is silent.

    Args:
        trainer: Whose bar sets the manner; ``enable_progress_bar=False`` is respected.
        num_rounds: Of the call to ``fit``.
    """

    def __init__(self, trainer: L.Trainer, *, num_rounds: int) -> None:
        self._num_rounds = num_rounds
        self._num_done = 0
        bar = trainer.progress_bar_callback if trainer.is_global_zero else None
        self._lines = bar if isinstance(bar, ProgressBar) and not isinstance(bar, TQDMProgressBar) else None
        self._bar = (
            _tqdm_below(bar, num_rounds) if isinstance(bar, TQDMProgressBar) and bar.is_enabled else None
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, record: RoundRecord) -> None:
        """Show that a round is done."""
        self._num_done += 1
        summary = round_summary(record)
        if self._bar is not None:
            self._bar.set_postfix(summary, refresh=False)
            self._bar.update()
        if self._lines is not None:
            figures = ", ".join(f"{name} {figure}" for name, figure in summary.items())
            self._lines.print(f"Round {self._num_done} of {self._num_rounds}: {figures or 'trained'}")


def _tqdm_below(bar: TQDMProgressBar, num_rounds: int) -> _Bar:
    below: _Bar = Tqdm(
        total=num_rounds,
        desc="Rounds",
        unit="round",
        position=2 * bar.process_position + 2,  # below the training and the validation bar
        leave=True,
        dynamic_ncols=True,
        file=sys.stdout,
        smoothing=0,
    )
    return below
