"""Many rounds with one Lightning trainer, on a real control plane."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import pytorch_lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_client.testing import FakeClock
from edgeml_lightning import Ditto, FedAvg, FederatedCallback, FederatedTrainer
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_server import EmbeddedServer

Quiet = Callable[..., L.Trainer]


def test_every_round_starts_from_the_model_the_last_one_made(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """With one device the mean of the updates is its own, so the new global model is its local model."""
    clinic.open_rounds(num_rounds=3)
    client = clinic.device()
    federated = FederatedTrainer(client, model="line", trainer=quiet())

    history = federated.fit(line, datamodule=points, rounds=2)

    assert [(record.round_number, record.base_version) for record in history] == [(1, "1"), (2, "2")]
    assert history.end_reason is None
    client.wait_for_round(history[-1].round_id, timeout_s=30)
    latest = client.pull_global_model("line").torch_tensors()
    torch.testing.assert_close(latest, dict(line.state_dict()))


def test_epochs_steps_and_logger_steps_go_on_over_the_rounds(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet, tmp_path: Path
) -> None:
    """Two epochs of three steps a round: three rounds end at epoch 6 and step 18, each logged once."""
    clinic.open_rounds(num_rounds=3)
    logger = CSVLogger(tmp_path, name="log", version="")
    trainer = quiet(max_epochs=2, logger=logger, log_every_n_steps=1)
    federated = FederatedTrainer(clinic.device(), model="line", trainer=trainer)

    history = federated.fit(line, datamodule=points, rounds=3)

    assert (trainer.current_epoch, trainer.global_step) == (6, 18)
    assert [record.num_steps for record in history] == [6, 6, 6]
    rows = [row.split(",") for row in (tmp_path / "log" / "metrics.csv").read_text().splitlines()]
    step, loss = rows[0].index("step"), rows[0].index("train_loss")
    assert [int(row[step]) for row in rows[1:] if row[loss]] == list(range(18))


def test_checkpoints_of_all_rounds_have_names_of_their_own(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet, tmp_path: Path
) -> None:
    clinic.open_rounds(num_rounds=2)
    keep = ModelCheckpoint(dirpath=tmp_path / "kept", save_top_k=-1)
    trainer = quiet(max_epochs=1, callbacks=[keep], enable_checkpointing=True)

    FederatedTrainer(clinic.device(), model="line", trainer=trainer).fit(line, datamodule=points, rounds=2)

    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "epoch=0-step=3.ckpt",
        "epoch=1-step=6.ckpt",
    ]
    assert trainer.callbacks[-1] is keep, (
        "Lightning keeps checkpoints last, and so does the federated trainer"
    )


def test_early_stopping_judges_each_round_by_itself(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """A figure that cannot improve by 100 ends a round after 1 + 1 epochs of five: three steps each."""
    clinic.open_rounds(num_rounds=2)
    stopping = EarlyStopping("val_loss", patience=1, min_delta=100.0)
    federated = FederatedTrainer(
        clinic.device(),
        model="line",
        trainer=quiet(max_epochs=5, callbacks=[stopping], num_sanity_val_steps=0),
    )

    history = federated.fit(line, datamodule=points, rounds=2)

    assert [record.num_steps for record in history] == [6, 6]


def test_training_stops_with_a_reason_when_the_federation_is_over(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.open_rounds(num_rounds=2)
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(), wait_s=60.0)

    with caplog.at_level(logging.WARNING, logger="edgeml_lightning"):
        history = federated.fit(line, datamodule=points, rounds=5)

    assert len(history) == 2
    assert history.end_reason == "the federation is over: this was the last of its 2 rounds"
    assert "stopped after 2 of 5 rounds of model 'line': the federation is over" in caplog.text


def test_training_stops_with_a_reason_when_an_operator_ends_the_federation(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    opened = clinic.open_rounds(num_rounds=3)
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet())
    federated.fit_round(line, datamodule=points)
    ended = clinic.plane.wait_for_round(opened.round_id, timeout_s=30)
    clinic.plane.cancel_round(ended.next_round_id)

    record = federated.fit_round(line, datamodule=points)

    assert record is None
    assert federated.end_reason is not None
    assert federated.end_reason.startswith("the federation ended in round 2 of 3")


def test_a_device_that_is_too_late_for_a_round_goes_on_with_the_next(
    clinic_of: Any,
    line: L.LightningModule,
    points: Any,
    quiet: Quiet,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first of three rounds passes its deadline while this device trains."""
    clock = FakeClock()

    class Dawdle(L.Callback):
        """Lets more time pass than the first round allows."""

        @override
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                clock.advance(601)

    with EmbeddedServer(clock=clock) as plane:
        clinic = clinic_of(plane)
        clinic.open_rounds(num_rounds=3, deadline_s=600)
        federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(callbacks=[Dawdle()]))

        history = federated.fit(line, datamodule=points, rounds=2)

    assert [(record.round_number, record.base_version) for record in history] == [(2, "1"), (3, "2")]
    assert "too late for a round" in caplog.text


def test_without_a_round_nothing_is_trained_and_the_reason_is_told(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    clinic.open_rounds(min_updates=2)  # waits for a second device
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(), wait_s=0.0)

    history = federated.fit(line, datamodule=points, rounds=1)

    assert len(history) == 0
    assert history.end_reason == "no round of model 'line' was offered to this device within 0 s"
    assert federated.trainer.global_step == 0


def test_waiting_for_the_first_round_is_announced(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet, caplog: pytest.LogCaptureFixture
) -> None:
    clinic.open_rounds(min_updates=2)  # waits for a second device
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(), wait_s=0.01)

    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        federated.fit(line, datamodule=points, rounds=1)

    assert caplog.messages.count("waiting up to 0.01 s for a round of model 'line'") == 1


def test_a_round_without_a_step_ends_training_instead_of_repeating_it(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    clinic.open_rounds(num_rounds=2)
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(limit_train_batches=0))

    history = federated.fit(line, datamodule=points, rounds=2)

    assert [record.update_status for record in history] == [None]
    assert history.end_reason is not None
    assert "left nothing to upload after 0 optimizer steps" in history.end_reason


def test_the_received_and_the_personal_model_are_measured_in_every_round(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    clinic.open_rounds(num_rounds=2)
    federated = FederatedTrainer(
        clinic.device(), model="line", strategy=Ditto(lambda_ditto=0.1), trainer=quiet(max_epochs=3)
    )

    history = federated.fit(line, datamodule=points, rounds=2)

    received = [record.received_metrics["val_loss"] for record in history]
    personal = [record.personal_metrics["val_loss"] for record in history]
    assert received[1] < received[0], "the second round receives what the first one learned"
    assert all(own < shared for own, shared in zip(personal, received, strict=True))
    assert history.to_frame()["personal/val_loss"].tolist() == personal


def test_the_sanity_check_can_be_left_out(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    clinic.open_rounds()
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(num_sanity_val_steps=0))

    history = federated.fit(line, datamodule=points, rounds=1)

    assert not history[0].received_metrics


def test_plain_loaders_do_as_well_as_a_data_module(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    clinic.open_rounds()
    federated = FederatedTrainer(clinic.device(), model="line", strategy=FedAvg(), trainer=quiet())

    history = federated.fit(
        line,
        train_dataloaders=points.train_dataloader(),
        val_dataloaders=points.val_dataloader(),
        rounds=1,
    )

    assert history[0].sample_count == 12


def test_a_trainer_that_cannot_run_several_rounds_is_refused_at_once(clinic: Any, quiet: Quiet) -> None:
    with pytest.raises(UnsupportedTrainingError, match="max_steps=5 counts over all rounds"):
        FederatedTrainer(clinic.device(), model="line", trainer=quiet(max_steps=5))


def test_a_second_federated_callback_is_refused(clinic: Any, quiet: Quiet) -> None:
    client = clinic.device()
    trainer = quiet(callbacks=[FederatedCallback(client, model="line")])

    with pytest.raises(ConfigurationError, match="brings its own"):
        FederatedTrainer(client, model="line", trainer=trainer)


def test_a_module_of_another_lightning_is_refused_before_a_round_is_taken(clinic: Any, quiet: Quiet) -> None:
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet())

    with pytest.raises(ConfigurationError, match="import lightning as L"):
        federated.fit_round(pytorch_lightning.LightningModule())  # type: ignore[arg-type]


def test_at_least_one_round_must_be_asked_for(clinic: Any, line: L.LightningModule, quiet: Quiet) -> None:
    with pytest.raises(ConfigurationError, match="at least 1"):
        FederatedTrainer(clinic.device(), model="line", trainer=quiet()).fit(line, rounds=0)
