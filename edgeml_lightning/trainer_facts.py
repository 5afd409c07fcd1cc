"""What a Lightning trainer knows and its types do not say."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import Callback

__all__ = ["callbacks_of", "is_trial_run"]


def callbacks_of(trainer: L.Trainer) -> list[Callback]:
    """Return the trainer's own list of callbacks."""
    callbacks: list[Callback] = vars(trainer)["callbacks"]
    return callbacks


def is_trial_run(trainer: L.Trainer) -> bool:
    """Return whether ``fast_dev_run`` lets it train for a few batches only, to see that the code runs."""
    return bool(vars(trainer)["fast_dev_run"])
