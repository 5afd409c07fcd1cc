"""Rounds of a number of steps that hand on optimizers, schedules and their place in the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader
from typing_extensions import override

from edgeml_lightning import FederatedTrainer, RoundRecord
from tests.lightning.distributed.scenarios import (
    GLOBAL_BATCH,
    Batch,
    Kind,
    Net,
    Seat,
    connection,
    loader,
    samples,
    trainer,
)

NUM_SAMPLES = 3 * GLOBAL_BATCH
"""A pass is three steps, of one batch alone or of two half ones."""

LOCAL_STEPS = 2
"""So the second round ends one pass and begins another."""


class SteppedNet(Net):
    """With moments to remember and a learning rate that falls at every step."""

    @override
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Diary(L.Callback):
    """Remembers the samples, the learning rate and a random number of each step of this process."""

    def __init__(self) -> None:
        self.steps: list[list[float]] = []
        self.rates: list[float] = []
        self.draws: list[float] = []

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.steps.append(batch[0][:, 0].tolist())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        self.draws.append(torch.rand(()).item())


@dataclass(frozen=True)
class Sitting:
    """What one process saw between its start and its end."""

    records: list[RoundRecord]
    steps: list[list[float]]
    rates: list[float]
    draws: list[float]


@dataclass(frozen=True)
class Habit:
    """How a user's script plays rounds.

    Attributes:
        kind: Alone, or as two processes.
        shuffle: Whether every pass over the data is in a new order.
        is_checked: Whether the received model is measured before training.
    """

    kind: Kind
    shuffle: bool = False
    is_checked: bool = False


def sit(rank: int, seat: Seat, habit: Habit, num_rounds: int) -> Sitting:
    """Play rounds of local steps with optimizers that are kept, as one run of a user's script."""
    module, diary = SteppedNet(), Diary()
    L.seed_everything(5, verbose=False)
    running = trainer(habit.kind, diary, max_epochs=1, num_sanity_val_steps=1 if habit.is_checked else 0)
    federated = FederatedTrainer(
        connection(rank, seat),
        model="stepped",
        trainer=running,
        local_steps=LOCAL_STEPS,
        optimizers="keep",
    )
    data = DataLoader(
        samples(NUM_SAMPLES),
        batch_size=GLOBAL_BATCH if habit.kind == "alone" else GLOBAL_BATCH // 2,
        shuffle=habit.shuffle,
    )
    history = federated.fit(
        module, train_dataloaders=data, val_dataloaders=loader(habit.kind), rounds=num_rounds
    )
    return Sitting(list(history), diary.steps, diary.rates, diary.draws)
