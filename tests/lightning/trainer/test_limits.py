"""Which trainers can run several rounds, and how far each round goes."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.demos.boring_classes import BoringModel
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.trainer.fresh_callbacks import FreshCallbacks
from edgeml_lightning.trainer.limits import RoundLimits, check_repeatable

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "limit_train_batches": 3,
    "limit_val_batches": 1,
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_steps": 10, "max_epochs": 1}, "max_steps=10 counts over all rounds"),
        ({"max_epochs": -1}, "epochs of one round"),
        ({"max_epochs": 1, "max_time": "00:01:00:00"}, "max_time counts over all rounds"),
        ({"max_epochs": 1, "strategy": "ddp_spawn"}, "use strategy='ddp'"),
        ({"fast_dev_run": True}, "limit_train_batches=1"),
    ],
)
def test_a_limit_that_would_silently_end_training_is_refused(arguments: dict[str, Any], words: str) -> None:
    trainer = L.Trainer(**(QUIET | arguments))

    with pytest.raises(UnsupportedTrainingError, match=words):
        check_repeatable(trainer)


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        (StochasticWeightAveraging(0.01), "use WeightAveraging, which starts every round from the received"),
        (LearningRateFinder(), "find one before, with Tuner"),
    ],
    ids=["average", "rate"],
)
def test_a_callback_of_a_single_fit_is_refused(callback: L.Callback, words: str) -> None:
    trainer = L.Trainer(max_epochs=4, callbacks=[callback], **QUIET)

    with pytest.raises(UnsupportedTrainingError, match=words):
        check_repeatable(trainer)


def test_another_lightning_is_told_apart() -> None:
    old = pytorch_lightning.Trainer(logger=False, accelerator="cpu")

    with pytest.raises(ConfigurationError, match="import lightning as L"):
        check_repeatable(old)  # type: ignore[arg-type]


def test_epochs_and_steps_go_on_counting_over_the_rounds() -> None:
    """Two epochs of three steps a round: 2 and 6 after the first round, 4 and 12 after the second."""
    trainer = L.Trainer(max_epochs=2, **QUIET)
    check_repeatable(trainer)
    limits = RoundLimits.of(trainer)
    counts = []

    for _ in range(2):
        limits.move_to_here_(trainer)
        trainer.fit(BoringModel())
        counts.append((trainer.current_epoch, trainer.global_step))

    assert counts == [(2, 6), (4, 12)]


def test_the_least_of_a_round_moves_along_too() -> None:
    trainer = L.Trainer(max_epochs=2, min_epochs=1, min_steps=2, **QUIET)
    limits = RoundLimits.of(trainer)

    limits.move_to_here_(trainer)
    trainer.fit(BoringModel())
    limits.move_to_here_(trainer)

    assert (trainer.fit_loop.min_epochs, trainer.fit_loop.min_steps) == (3, 8)


class NeverBetter(BoringModel):
    """Its monitored figure stays the same, so patience is all that counts."""

    @override
    def on_train_epoch_end(self) -> None:
        self.log("plateau", torch.tensor(1.0))


def _epochs_a_round(*, restore: bool) -> list[int]:
    stopping = EarlyStopping("plateau", patience=2, check_on_train_epoch_end=True, mode="min")
    trainer = L.Trainer(max_epochs=10, callbacks=[stopping], **QUIET)
    limits, fresh = RoundLimits.of(trainer), FreshCallbacks(trainer)
    epochs = []
    for _ in range(3):
        if restore:
            fresh.restore_()
        limits.move_to_here_(trainer)
        before = trainer.current_epoch
        trainer.fit(NeverBetter())
        epochs.append(trainer.current_epoch - before)
    return epochs


def test_early_stopping_has_its_full_patience_in_every_round() -> None:
    """Patience 2 ends a round after 1 + 2 epochs; carried over, the later rounds end after one."""
    assert _epochs_a_round(restore=True) == [3, 3, 3]
    assert _epochs_a_round(restore=False) == [3, 1, 1]


@pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")
def test_checkpoints_remember_what_was_best_over_all_rounds(tmp_path: Any) -> None:
    best = ModelCheckpoint(
        dirpath=tmp_path, monitor="plateau", filename="{epoch}-{step}", save_on_train_epoch_end=True
    )
    trainer = L.Trainer(max_epochs=1, callbacks=[best], **(QUIET | {"enable_checkpointing": True}))
    limits, fresh = RoundLimits.of(trainer), FreshCallbacks(trainer)

    for _ in range(2):
        fresh.restore_()
        limits.move_to_here_(trainer)
        trainer.fit(NeverBetter())

    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0-step=3.ckpt"]
