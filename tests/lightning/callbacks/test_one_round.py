"""What one fit does to the module, to the control plane and to the Trainer's figures."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from edgeml_client.errors import (
    ConfigurationError,
    ConnectionFailedError,
    ModelMismatchError,
    NonFiniteError,
)
from edgeml_client.testing import FakeClock
from edgeml_lightning import Ditto, FedAvg, FederatedCallback, FedPer, FedProx
from edgeml_lightning.callbacks.waiting import announce_wait
from edgeml_lightning.errors import FederationError, NoRoundAssignedError
from edgeml_server import EmbeddedServer
from tests.lightning.federation import Batch, DigitsNet, Federation, digits_of, loader, seeded, trainer


def joined(federation: Federation, module: nn.Module | None = None, **arguments: Any) -> FederatedCallback:
    """Return the callback of one enrolled device with an open round."""
    federation.register_model(module or seeded())
    client = federation.enrol("device")
    federation.open_rounds(**arguments)
    return FederatedCallback(client, model="digits", strategy=FedAvg(), wait_s=30)


class Watcher(L.Callback):
    """Remembers the module's arrays at the start of training."""

    def __init__(self) -> None:
        self.arrays: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.arrays = {name: value.clone() for name, value in pl_module.state_dict().items()}


def test_training_starts_from_the_global_model(federation: Federation) -> None:
    registered, watcher = seeded(seed=1), Watcher()
    callback = joined(federation, registered)

    trainer(callback, watcher).fit(seeded(seed=2), loader(digits_of(0)))

    for name, value in registered.state_dict().items():
        assert torch.equal(watcher.arrays[name], value)


def test_the_record_says_what_happened(federation: Federation) -> None:
    """40 samples in batches of 10, two epochs: 8 steps.

    The network has 64*16 + 16 + 4*16 + 16*10 + 10 = 1274 floating numbers of 4 bytes.
    """
    callback = joined(federation, num_rounds=3)

    trainer(callback, max_epochs=2).fit(seeded(), loader(digits_of(0)))

    record = callback.last_round
    assert record is not None
    assert (record.round_number, record.num_rounds, record.base_version) == (1, 3, "1")
    assert (record.sample_count, record.num_steps, record.update_status) == (40, 8, "accepted")
    assert record.num_bytes_received > 4 * 1274
    assert record.num_bytes_sent > 4 * 1274
    assert record.duration_s > 0
    assert callback.last_receipt is not None
    status = federation.server.wait_for_round(record.round_id, timeout_s=30)
    assert (status.num_updates, status.num_samples) == (1, 40)


def test_the_received_model_is_measured_when_all_of_validation_runs_first(federation: Federation) -> None:
    """``num_sanity_val_steps=-1`` validates the global model; a part of the data would not measure it."""
    callback = joined(federation, num_rounds=2)
    data, module = loader(digits_of(0)), seeded(seed=5)
    (expected,) = trainer().validate(seeded(), loader(digits_of(0)), verbose=False)

    trainer(callback, num_sanity_val_steps=-1).fit(module, data, data)
    measured = callback.last_round
    trainer(callback, num_sanity_val_steps=2).fit(module, data, data)

    assert measured is not None
    assert measured.received_metrics == pytest.approx(expected)
    assert set(measured.local_metrics) == {"train_loss", "val_accuracy", "val_loss"}
    assert callback.last_round is not None
    assert callback.last_round.received_metrics == {}


def test_figures_reach_the_loggers(federation: Federation, tmp_path: Path) -> None:
    callback = joined(federation)
    logger = CSVLogger(tmp_path)

    fit = trainer(callback, logger=logger)
    fit.fit(seeded(), loader(digits_of(0)))

    lines = Path(logger.log_dir, "metrics.csv").read_text().splitlines()
    assert {"federated/round", "federated/num_bytes_sent", "federated/duration_s"} <= set(lines[0].split(","))
    assert fit.callback_metrics["federated/sample_count"] == 40


def test_a_crash_in_training_uploads_nothing_and_the_round_starts_again(federation: Federation) -> None:
    class Crashing(DigitsNet):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            if batch_idx == 2:
                raise RuntimeError("the sensor fell off")
            return super().training_step(batch, batch_idx)

    callback = joined(federation)

    with pytest.raises(RuntimeError, match="fell off"):
        trainer(callback).fit(Crashing(), loader(digits_of(0)))

    assert callback.last_round is None
    trainer(callback).fit(seeded(), loader(digits_of(0)))
    assert callback.last_round is not None
    assert callback.last_round.round_number == 1
    assert federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30).num_updates == 1


def test_a_fit_that_fails_in_validation_does_not_leave_the_module_evaluating(federation: Federation) -> None:
    """In evaluation dropout and batch normalization rest, and the next fit would train so."""

    class Failing(DigitsNet):
        fails = True

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            if self.fails:
                raise RuntimeError("the disk of the figures is full")

    callback, module = joined(federation), seeded(Failing)

    with pytest.raises(RuntimeError, match="figures"):
        trainer(callback).fit(module, loader(digits_of(0)), loader(digits_of(0)))

    assert all(child.training for child in module.modules())
    Failing.fails = False
    trainer(callback).fit(module, loader(digits_of(0)), loader(digits_of(0)))
    assert module.body[1].num_batches_tracked == 4


@pytest.mark.parametrize("arguments", [{"max_epochs": 0}, {"fast_dev_run": True}], ids=["no step", "trial"])
def test_nothing_is_uploaded_without_real_training(
    federation: Federation, caplog: pytest.LogCaptureFixture, arguments: dict[str, Any]
) -> None:
    callback = joined(federation)

    with caplog.at_level(logging.WARNING):
        trainer(callback, **arguments).fit(seeded(), loader(digits_of(0)))

    assert "nothing is uploaded" in caplog.text
    assert callback.last_round is not None
    assert callback.last_round.update_status is None
    assert federation.server.get_round(callback.last_round.round_id).num_updates == 0


def test_diverged_training_is_refused_with_advice(federation: Federation) -> None:
    callback = joined(federation)

    with pytest.raises(NonFiniteError, match="lower the learning rate"):
        trainer(callback).fit(seeded(lr=float("inf")), loader(digits_of(0)))


@pytest.mark.parametrize("strategy", [FedAvg(), FedPer(["classifier"])], ids=["what is sent", "what is kept"])
def test_arrays_that_training_renames_are_named(federation: Federation, strategy: Any) -> None:
    """Weight normalization puts two arrays in the place of one, of which nobody knows what it was before."""

    class Renaming(DigitsNet):
        def on_train_batch_end(self, *_: Any) -> None:
            if self.trainer.global_step == 1:
                nn.utils.parametrizations.weight_norm(self.classifier)

    callback = joined(federation)
    callback.strategy = strategy

    with pytest.raises(ModelMismatchError, match=r"classifier\.weight: absent from the module"):
        trainer(callback).fit(seeded(Renaming), loader(digits_of(0)))


def test_a_module_that_does_not_fit_is_refused_with_every_difference(federation: Federation) -> None:
    callback = joined(federation)
    module = seeded()
    module.classifier = nn.Linear(16, 12)
    module.extra = nn.Linear(1, 1)

    with pytest.raises(ModelMismatchError) as caught:
        trainer(callback).fit(module, loader(digits_of(0)))

    assert caught.value.problems == (
        "extra.bias: absent from the global model",
        "extra.weight: absent from the global model",
        "classifier.bias: [12] in the module, [10] globally",
        "classifier.weight: [12, 16] in the module, [10, 16] globally",
    )


def test_no_round_in_time_is_an_error_that_says_what_to_do(federation: Federation) -> None:
    federation.register_model(seeded())
    callback = FederatedCallback(federation.enrol("device"), model="digits", wait_s=0.0)

    with pytest.raises(NoRoundAssignedError, match="train_locally"):
        trainer(callback).fit(seeded(), loader(digits_of(0)))


def test_a_device_may_train_on_without_a_round(federation: Federation) -> None:
    federation.register_model(seeded())
    callback = FederatedCallback(
        federation.enrol("device"), model="digits", wait_s=0.0, when_unassigned="train_locally"
    )
    module = seeded()
    before = copy.deepcopy(module.state_dict())

    trainer(callback).fit(module, loader(digits_of(0)))

    assert callback.last_round is None
    assert not torch.equal(module.state_dict()["body.0.weight"], before["body.0.weight"])


def test_an_unknown_model_is_named(federation: Federation) -> None:
    callback = FederatedCallback(federation.enrol("device"), model="letters", wait_s=0.0)

    with pytest.raises(NoRoundAssignedError, match="'letters'"):
        trainer(callback).fit(seeded(), loader(digits_of(0)))


def test_the_model_whose_round_does_wait_is_named(federation: Federation) -> None:
    """Whoever misspelt the model's name sees which one it would have been."""
    client = federation.enrol("device")
    federation.register_model(seeded())
    opened = federation.open_rounds()
    callback = FederatedCallback(client, model="digit", wait_s=0.0)

    with pytest.raises(NoRoundAssignedError, match=f"A round of model '{opened.model_id}' waits") as caught:
        trainer(callback).fit(seeded(), loader(digits_of(0)))

    assert caught.value.other_model_id == opened.model_id


def test_waiting_is_announced(federation: Federation, caplog: pytest.LogCaptureFixture) -> None:
    """A silent minute looks like a fault; so the wait is told where Lightning tells of its devices."""
    federation.register_model(seeded())
    callback = FederatedCallback(federation.enrol("device"), model="digits", wait_s=0.01)

    with (
        caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"),
        pytest.raises(NoRoundAssignedError),
    ):
        trainer(callback).fit(seeded(), loader(digits_of(0)))

    assert caplog.messages.count("waiting up to 0.01 s for a round of model 'digits'") == 1


def test_a_round_of_another_model_is_named_while_waiting(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    """Its name may be the right one; a round of the model itself, which opened meanwhile, is no such sign."""
    federation.register_model(seeded())
    client = federation.enrol("device")
    opened = federation.open_rounds()

    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        announce_wait(client, model="digits", wait_s=1)
        announce_wait(client, model="didgits", wait_s=1)

    assert caplog.messages == [
        "waiting up to 1 s for a round of model 'digits'",
        (
            "waiting up to 1 s for a round of model 'didgits'; "
            f"one of model {opened.model_id!r} waits for this device: is the name right?"
        ),
    ]


def test_the_users_strategy_wins_and_the_conflict_is_logged(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    callback = joined(federation, config={"strategy": "ditto", "lambda_ditto": 0.5})

    trainer(callback).fit(seeded(), loader(digits_of(0)))

    assert callback.last_round is not None
    assert callback.last_round.strategy == "fedavg"
    assert "the strategy is fedavg here and ditto in the round" in caplog.text


def test_the_round_chooses_for_a_user_who_does_not(federation: Federation) -> None:
    callback = joined(federation, config={"head_layers": ["classifier"]})
    callback.strategy = None

    trainer(callback).fit(seeded(), loader(digits_of(0)))

    assert callback.last_round is not None
    assert callback.last_round.strategy == "fedper"


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(digits_of(0))


def test_data_without_a_length_needs_a_sample_count(federation: Federation) -> None:
    callback = joined(federation)

    with pytest.raises(ConfigurationError, match="sample_count="):
        trainer(callback).fit(seeded(), DataLoader(Endless(), batch_size=10))

    callback.sample_count = 17
    trainer(callback).fit(seeded(), DataLoader(Endless(), batch_size=10))
    assert callback.last_round is not None
    assert callback.last_round.sample_count == 17


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", "bf16-mixed"])
def test_other_precisions_send_float32(federation: Federation, precision: Any) -> None:
    """The registered model stays float32, whatever the device computes in."""
    callback = joined(federation)

    trainer(callback, precision=precision).fit(seeded(lr=0.01), loader(digits_of(0)))

    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    state = federation.global_state()
    assert state["body.0.weight"].dtype == torch.float32
    assert not torch.equal(state["body.0.weight"], seeded().state_dict()["body.0.weight"])
    assert state["body.1.num_batches_tracked"].item() == 0


def test_a_model_registered_in_half_precision_stays_so(federation: Federation) -> None:
    callback = joined(federation, seeded().to(torch.bfloat16))

    trainer(callback).fit(seeded(), loader(digits_of(0)))

    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    assert federation.global_state()["body.0.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("strategy", [FedAvg(), FedProx(0.1)])
def test_strategies_without_a_personal_model_say_so(federation: Federation, strategy: Any) -> None:
    callback = joined(federation)
    callback.strategy = strategy

    trainer(callback).fit(seeded(), loader(digits_of(0)))

    with pytest.raises(FederationError, match="no personal model"):
        callback.personal_module()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"when_unassigned": "wait"}, "train_locally"),
        ({"sample_count": 0}, "sample_count"),
        ({"strategy": "ditto"}, "FedAvg"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FederatedCallback(None, model="digits", **arguments)


def test_buffers_can_stay_on_the_device(federation: Federation) -> None:
    """With ``buffers="local"`` normalization statistics are neither sent nor replaced by the next round's."""
    callback = joined(federation, num_rounds=2)
    callback.strategy = FedAvg(buffers="local")
    module, watcher = seeded(), Watcher()

    trainer(callback).fit(module, loader(digits_of(0)))
    mine = module.body[1].running_mean.clone()
    trainer(callback, watcher).fit(seeded(), loader(digits_of(0)))

    assert torch.equal(watcher.arrays["body.1.running_mean"], mine)
    assert not federation.global_state()["body.1.running_mean"].any()


def test_two_layers_with_like_names_are_told_apart(federation: Federation) -> None:
    """A head ``bn1`` does not take ``bn10``."""

    class Net(DigitsNet):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.bn1, self.bn10 = nn.BatchNorm1d(64), nn.BatchNorm1d(64)

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(self.bn10(self.bn1(images)))

    callback = joined(federation, seeded(Net))
    callback.strategy = FedPer(["bn1"])

    trainer(callback).fit(seeded(Net), loader(digits_of(0)))

    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    state = federation.global_state()
    assert torch.equal(state["bn1.weight"], torch.ones(64))
    assert not torch.equal(state["bn10.weight"], torch.ones(64))


def test_the_personal_model_can_be_used_like_any_module(federation: Federation) -> None:
    callback = joined(federation)
    callback.strategy = Ditto(lambda_ditto=0.1)
    module = seeded()

    trainer(callback).fit(module, loader(digits_of(0)), loader(digits_of(0)))

    assert callback.last_round is not None
    (measured,) = trainer().validate(callback.personal_module(), loader(digits_of(0)), verbose=False)
    assert measured["val_loss"] == pytest.approx(callback.last_round.personal_metrics["val_loss"])
    assert callback.personal_module() is not module


def test_buffers_can_start_anew_each_round(federation: Federation) -> None:
    """With ``buffers="reset"`` a round starts from the global statistics; what they become is not sent."""
    callback = joined(federation, num_rounds=2)
    callback.strategy = FedAvg(buffers="reset")
    module, watcher = seeded(), Watcher()

    trainer(callback).fit(module, loader(digits_of(0)))
    assert module.body[1].running_mean.any()
    trainer(callback, watcher).fit(module, loader(digits_of(0)))

    assert not watcher.arrays["body.1.running_mean"].any()
    assert not federation.global_state()["body.1.running_mean"].any()


@pytest.mark.parametrize("strategy", [FedProx(0.1), Ditto(0.1), FedPer(["body"])])
def test_compiled_layers_take_part_under_their_own_names(federation: Federation, strategy: Any) -> None:
    callback = joined(federation)
    callback.strategy = strategy
    module = seeded()
    module.body = torch.compile(module.body, backend="eager")

    trainer(callback).fit(module, loader(digits_of(0)), loader(digits_of(0)))

    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    state, before = federation.global_state(), seeded().state_dict()
    assert torch.equal(state["body.0.weight"], before["body.0.weight"]) == isinstance(strategy, FedPer)
    assert not torch.equal(state["classifier.weight"], before["classifier.weight"])


def test_sparse_gradients_are_refused_under_a_proximal_term(federation: Federation) -> None:
    class Sparse(DigitsNet):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.scale = nn.Embedding(2, 10, sparse=True)

        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) + self.scale(torch.zeros(len(images), dtype=torch.int64))

    callback = joined(federation, seeded(Sparse))
    callback.strategy = FedProx(0.1)

    with pytest.raises(ValueError, match="sparse=False"):
        trainer(callback).fit(seeded(Sparse), loader(digits_of(0)))


def test_a_lost_network_loses_neither_the_update_nor_the_personal_model(tmp_path: Path) -> None:
    """The control plane goes away while the device trains: the update waits on the disk."""
    with EmbeddedServer() as server:
        federation = Federation(server, tmp_path, org_id="lost")
        federation.register_model(seeded())
        client = federation.enrol("device", clock=FakeClock())
        federation.open_rounds()
        callback = FederatedCallback(client, model="digits", strategy=Ditto(0.1), wait_s=30)

        class Leaving(L.Callback):
            def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
                server.close()

        with pytest.raises(ConnectionFailedError, match="flush_outbox"):
            trainer(callback, Leaving()).fit(seeded(), loader(digits_of(0)))

    assert callback.last_round is None
    assert isinstance(callback.personal_module(), DigitsNet)
    assert list((client.device_dir / "outbox").iterdir())
    assert list((client.device_dir / "personal").rglob("*.safetensors"))
    federation.close()
