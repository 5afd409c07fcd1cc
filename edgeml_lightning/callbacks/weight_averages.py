"""Averages of weights, such as an EMA, start every round from the model that was received."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging

from edgeml_lightning.trainer_facts import callbacks_of

if TYPE_CHECKING:
    from torch.optim.swa_utils import AveragedModel

__all__ = ["restart_averages_"]


@torch.no_grad()
def restart_averages_(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Let the trainer's ``WeightAveraging`` callbacks average from the module as it is now.

    They copy the module when a fit is set up, before the global model is loaded, and put their copy in its
    place for every validation.
    """
    for callback in callbacks_of(trainer):
        average: AveragedModel | None = vars(callback).get("_average_model")
        if isinstance(callback, WeightAveraging) and average is not None:
            copies = chain(average.module.parameters(), average.module.buffers())
            for copied, current in zip(copies, chain(module.parameters(), module.buffers()), strict=True):
                copied.copy_(current)
            average.n_averaged.zero_()
