"""The hooks of a round between its first batch and its last: random streams, gradients, a second model."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch.optim import Optimizer
from typing_extensions import override

from edgeml_lightning.callbacks.accumulation import AccumulationWindow, loss_factor
from edgeml_lightning.callbacks.round_streams import RoundStreams
from edgeml_lightning.callbacks.running_round import RunningRound
from edgeml_lightning.callbacks.second_model_hooks import SecondModelHooks

__all__ = ["TrainingHooks"]


class TrainingHooks(SecondModelHooks):
    """Does in every batch, step and epoch what the round's strategy asks for; without a round, nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._round: RunningRound | None = None
        self._window = AccumulationWindow()
        self._streams = RoundStreams()

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._streams.start_epoch(trainer)
        super().on_train_epoch_start(trainer, pl_module)

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._streams.count_batch(trainer)
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self._streams.end_epoch()

    @override
    def on_before_zero_grad(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        self._window.on_zero_grad()
        super().on_before_zero_grad(trainer, pl_module, optimizer)

    @override
    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._window.on_backward()

    @override
    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._round is not None:
            self._round.drop_resting_gradients_(optimizer, epoch=trainer.current_epoch)
        if self._round is not None and self._round.changes_gradients:
            factor = loss_factor(trainer, self._window, optimizer)
            self._round.add_to_gradients_(optimizer, factor=factor)
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
