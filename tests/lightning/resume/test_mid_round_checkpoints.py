"""A round that goes on from a checkpoint in the middle of an epoch ends as if it had not been interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from edgeml_lightning import Ditto, FedAvg, FederatedCallback
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer

STEPS_PER_EPOCH = 4
"""Forty samples in batches of ten."""


class CheckpointAndFail(L.Callback):
    """Writes a checkpoint after a step, or at the end of the epoch it ends, and fails one step later."""

    def __init__(self, path: Path, *, after_step: int) -> None:
        self.path, self.after_step = path, after_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.after_step and not trainer.is_last_batch:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step == self.after_step:
            trainer.save_checkpoint(self.path)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.after_step + 1:
            raise RuntimeError("power cut")


def train(
    callback: FederatedCallback, *others: L.Callback, seed: int, ckpt_path: Path | None = None
) -> DigitsNet:
    """Train two epochs in a new process, as far as random streams are concerned."""
    module: DigitsNet = seeded(momentum=0.9, dropout=0.3, seed=seed)
    trainer(callback, *others, max_epochs=2).fit(
        module,
        loader(digits_of(0), shuffle=True),
        ckpt_path=ckpt_path,
        weights_only=True if ckpt_path else None,
    )
    return module


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("strategy", [FedAvg(), Ditto(0.3)], ids=["fedavg", "ditto"])
def test_it_goes_on_at_the_next_batch_with_the_next_random_number(
    federation: Federation, tmp_path: Path, strategy: Any
) -> None:
    """Interrupted in the first epoch, at its end, and in the second: dropout and order stay.

    The process that goes on has another seed and other weights: all comes from the checkpoint.
    """
    federation.register_model(seeded(DigitsNet))
    points = (1, STEPS_PER_EPOCH, STEPS_PER_EPOCH + 2)
    devices = ["calm", *(f"after-{step}" for step in points)]
    clients = {device: federation.enrol(device) for device in devices}
    federation.open_rounds(min_updates=len(devices))

    def connect(device: str) -> FederatedCallback:
        return FederatedCallback(clients[device], model="digits", strategy=strategy, wait_s=30)

    calm = connect("calm")
    expected = train(calm, seed=3).state_dict()

    for step in points:
        path = tmp_path / f"{step}.ckpt"
        with pytest.raises(RuntimeError, match="power cut"):
            train(connect(f"after-{step}"), CheckpointAndFail(path, after_step=step), seed=3)
        resumed = connect(f"after-{step}")
        module = train(resumed, seed=8, ckpt_path=path)

        assert resumed.last_round is not None
        assert resumed.last_round.num_steps == 2 * STEPS_PER_EPOCH
        for name, value in module.state_dict().items():
            assert torch.equal(value, expected[name]), (step, name)
        if isinstance(strategy, Ditto):
            theirs = calm.personal_module().state_dict()
            for name, value in resumed.personal_module().state_dict().items():
                assert torch.equal(value, theirs[name]), (step, name)


def test_a_round_that_failed_starts_again_from_its_beginning_in_the_same_process(
    federation: Federation, tmp_path: Path
) -> None:
    """Without a checkpoint, and with another seed meanwhile: the same update, bit for bit."""
    federation.register_model(seeded(DigitsNet))
    calm, failing = (federation.enrol(device) for device in ("calm", "failing"))
    federation.open_rounds(min_updates=2)
    expected = train(FederatedCallback(calm, model="digits", wait_s=30), seed=3).state_dict()

    with pytest.raises(RuntimeError, match="power cut"):
        train(
            FederatedCallback(failing, model="digits", wait_s=30),
            CheckpointAndFail(tmp_path / "unused.ckpt", after_step=3),
            seed=3,
        )
    again = train(FederatedCallback(failing, model="digits", wait_s=30), seed=8)

    for name, value in again.state_dict().items():
        assert torch.equal(value, expected[name]), name
