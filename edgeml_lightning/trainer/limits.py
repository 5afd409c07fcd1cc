"""Whether a Lightning trainer can run several rounds, and how far each of them goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import lightning as L
from lightning.pytorch.callbacks import LearningRateFinder, StochasticWeightAveraging, Timer
from torch.optim import LBFGS, Optimizer
from typing_extensions import override

from edgeml_lightning.callbacks.requirements import check_trainer as check_exactness
from edgeml_lightning.callbacks.requirements import require_lightning
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.trainer_facts import callbacks_of, is_trial_run

__all__ = ["MovedLimits", "RoundLimits", "check_memory", "check_repeatable"]


def check_repeatable(trainer: L.Trainer) -> None:
    """Check that ``trainer`` can be fitted once a round, for as many rounds as there are.

    Raises:
        ConfigurationError: It is no ``lightning.Trainer``.
        UnsupportedTrainingError: A limit of the trainer counts over all rounds and would silently end
            training, or its strategy or a callback cannot be fitted twice; the message says what to use
            instead.
    """
    require_lightning(trainer, kind=L.Trainer)
    check_exactness(trainer)
    problem = _find_limit(trainer) or _find_single(trainer)
    if problem is not None:
        raise UnsupportedTrainingError(problem)


def check_memory(optimizers: Iterable[Optimizer]) -> None:
    """Check that what ``optimizers`` remember is still true when a round starts from another model.

    Raises:
        UnsupportedTrainingError: One remembers how gradients differ between the points of its steps.
    """
    if any(isinstance(optimizer, LBFGS) for optimizer in optimizers):
        raise UnsupportedTrainingError(
            'LBFGS cannot work with optimizers="keep": it learns the curvature from the way between two of '
            "its steps, and between two rounds the model moves without it: leave optimizers at its default, "
            '"reset", or use a first-order optimizer such as SGD or AdamW'
        )


def _find_limit(trainer: L.Trainer) -> str | None:
    if is_trial_run(trainer):
        return "fast_dev_run ends after one fit: use limit_train_batches=1 and limit_val_batches=1 instead"
    if trainer.max_steps != -1:
        return (
            f"max_steps={trainer.max_steps} counts over all rounds and would end training in one of them: "
            "set max_epochs, the epochs of one round, and limit_train_batches for shorter epochs"
        )
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        return f"max_epochs={trainer.max_epochs}: set it to the epochs of one round, at least 1"
    timers = [callback for callback in callbacks_of(trainer) if isinstance(callback, Timer)]
    if any(timer.time_remaining() is not None for timer in timers):
        return (
            "max_time counts over all rounds and would end training in one of them: limit the rounds instead"
        )
    return None


def _find_single(trainer: L.Trainer) -> str | None:
    """Return why a callback is one of a single fit."""
    callbacks = callbacks_of(trainer)
    if any(isinstance(callback, LearningRateFinder) for callback in callbacks):
        return (
            "LearningRateFinder would look for another rate in every round: find one before, with "
            "Tuner(L.Trainer()).lr_find(module, ...), and leave the callback out"
        )
    if not any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks):
        return None
    return (
        "StochasticWeightAveraging averages one fit: in the second round it would go on with the average of "
        "the first, and send that: use WeightAveraging, which starts every round from the received model, or "
        "a new Trainer with a FederatedCallback for every round"
    )


@dataclass(frozen=True)
class RoundLimits:
    """How many epochs one round takes, where the trainer's own limits count from its very first epoch.

    Attributes:
        max_epochs: The most epochs of a round.
        min_epochs: Epochs of a round before a callback may stop it early.
        min_steps: Steps of a round before a callback may stop it early.
    """

    max_epochs: int
    min_epochs: int | None
    min_steps: int | None

    @classmethod
    def of(cls, trainer: L.Trainer) -> RoundLimits:
        """Read the limits of a round from a trainer that :func:`check_repeatable` accepts."""
        loop = trainer.fit_loop
        return cls(max_epochs=loop.max_epochs or 1, min_epochs=loop.min_epochs, min_steps=loop.min_steps)

    def set_alone_(self, trainer: L.Trainer) -> None:
        """Let a trainer have the limits of one round, as if it were the first.

        So ``configure_optimizers`` finds the steps of a round in ``trainer.estimated_stepping_batches``.
        """
        loop = trainer.fit_loop
        loop.max_epochs, loop.min_epochs = self.max_epochs, self.min_epochs
        loop.epoch_loop.min_steps = self.min_steps

    def move_to_here_(self, trainer: L.Trainer) -> None:
        """Let a fit run these limits from where the trainer stands now.

        Epochs, steps, what loggers call a step and the names of checkpoints go on counting.
        """
        loop = trainer.fit_loop
        loop.max_epochs = trainer.current_epoch + self.max_epochs
        loop.min_epochs = self.min_epochs and trainer.current_epoch + self.min_epochs
        loop.epoch_loop.min_steps = self.min_steps and trainer.global_step + self.min_steps


class MovedLimits(L.Callback):
    """Moves the limits of a round to where it begins: after ``configure_optimizers``, before other callbacks.

    Args:
        limits: Those of a round.
    """

    def __init__(self, limits: RoundLimits) -> None:
        super().__init__()
        self._limits = limits

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._limits.move_to_here_(trainer)
