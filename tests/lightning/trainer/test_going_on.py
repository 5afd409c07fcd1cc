"""A series of rounds goes on from what the device keeps, and not from a checkpoint that someone picks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning import FederatedTrainer

Quiet = Callable[..., L.Trainer]


class PowerCut(L.Callback):
    """Ends training at one step of one epoch."""

    def __init__(self, *, epoch: int, batch_idx: int) -> None:
        self.at = (epoch, batch_idx)

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx) == self.at:
            raise LookupError("power cut")


def every_epoch(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        dirpath=folder, filename="{epoch}-{step}", save_top_k=-1, save_on_train_epoch_end=True
    )


def test_a_series_that_was_cut_off_goes_on_and_numbers_its_checkpoints_on(
    clinic: Any, line_class: Any, points: Any, quiet: Quiet, tmp_path: Path
) -> None:
    """Three steps an epoch, an epoch a round: the second of three rounds is cut off after its first step.

    The second trainer knows nothing but what the device keeps, as one in a new process would.
    """
    clinic.open_rounds(num_rounds=3)
    client = clinic.device()
    cut_off = FederatedTrainer(
        client,
        model="line",
        trainer=quiet(
            callbacks=[PowerCut(epoch=1, batch_idx=1), every_epoch(tmp_path)], enable_checkpointing=True
        ),
    )
    with pytest.raises(LookupError, match="power cut"):
        cut_off.fit(line_class(), datamodule=points, rounds=3)

    going_on = FederatedTrainer(
        client, model="line", trainer=quiet(callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)
    )
    history = going_on.fit(line_class(), datamodule=points, rounds=3)

    assert [record.round_number for record in history] == [2, 3]
    assert [record.num_steps for record in history] == [3, 3]
    assert (going_on.trainer.current_epoch, going_on.trainer.global_step) == (3, 9)
    names = sorted(path.name for path in tmp_path.glob("*.ckpt"))
    assert names == ["epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt", "epoch=2-step=9.ckpt"]


@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")
def test_a_checkpoint_is_not_gone_on_from(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet, tmp_path: Path
) -> None:
    """Lightning would put the epochs of one round, and its optimizers, into another."""
    status = clinic.open_rounds(num_rounds=2)
    federated = FederatedTrainer(
        clinic.device(),
        model="line",
        trainer=quiet(callbacks=[every_epoch(tmp_path)], enable_checkpointing=True),
    )
    federated.fit(line, datamodule=points, rounds=1)
    (checkpoint,) = tmp_path.glob("*.ckpt")

    with pytest.raises(ConfigurationError, match=r"call FederatedTrainer.fit again"):
        federated.trainer.fit(line, datamodule=points, ckpt_path=checkpoint, weights_only=True)

    assert clinic.plane.get_round(status.round_id).num_updates == 1
    measured = federated.trainer.validate(line, datamodule=points, ckpt_path=checkpoint, weights_only=True)
    assert "val_loss" in measured[0], "to look at it is what a checkpoint is for"
