"""The hooks in which the second model of Ditto or APFL follows the first."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch.optim import Optimizer
from typing_extensions import override

from edgeml_lightning.callbacks.personal_side import PersonalSide

__all__ = ["SecondModelHooks"]


class SecondModelHooks(L.Callback):
    """Hands each batch, step and epoch on to the second model of a round, if it has one."""

    def __init__(self) -> None:
        super().__init__()
        self._personal = PersonalSide()

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._personal.training is not None:
            self._personal.training.start_epoch()

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._personal.training is not None:
            self._personal.training.before_batch()

    @override
    def on_before_zero_grad(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._personal.training is not None:
            self._personal.training.shared_zeroes = True

    @override
    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._personal.training is not None:
            self._personal.training.shared_steps = True

    @override
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._personal.training is not None:
            self._personal.training.train_on(batch, batch_idx)

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._personal.training is not None:
            self._personal.training.end_epoch()

    @override
    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._personal.training is not None and trainer.validating:
            self._personal.training.start_validation()

    @override
    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._personal.training is not None and trainer.validating:
            self._personal.training.validate_on(batch, batch_idx, dataloader_idx)

    @override
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._personal.training is not None and trainer.validating:
            self._personal.training.end_validation()
