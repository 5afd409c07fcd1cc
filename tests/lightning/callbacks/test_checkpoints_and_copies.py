"""The callback's state survives checkpoints, restarts, pickling and copying."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 - users' tools pickle callbacks; nothing foreign is read
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from typing_extensions import override

from edgeml_client import FederatedClient
from edgeml_lightning import Ditto, FedAvg, FederatedCallback, FedPer
from tests.lightning.federation import Batch, DigitsNet, Federation, digits_of, loader, seeded, trainer


class Stopping(DigitsNet):
    """Fails in its second epoch, once."""

    fails = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if self.fails and self.current_epoch == 1 and batch_idx == 1:
            raise RuntimeError("power cut")
        return super().training_step(batch, batch_idx)


def make(**arguments: Any) -> Stopping:
    module: Stopping = seeded(Stopping, momentum=0.9, **arguments)
    return module


def train(
    module: L.LightningModule, *callbacks: L.Callback, ckpt_path: Any = None, max_epochs: int = 2
) -> None:
    torch.manual_seed(3)
    trainer(*callbacks, max_epochs=max_epochs).fit(
        module, loader(digits_of(0)), ckpt_path=ckpt_path, weights_only=True if ckpt_path else None
    )


def opened(federation: Federation, *devices: str, num_rounds: int = 1) -> list[FederatedClient]:
    federation.register_model(make())
    clients = [federation.enrol(device) for device in devices]
    federation.open_rounds(num_rounds=num_rounds, min_updates=len(devices))
    return clients


class FirstEpoch(L.Callback):
    """Writes a checkpoint after the first epoch."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "epoch.ckpt"

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("strategy", [FedAvg(), FedPer(["classifier"]), Ditto(0.3)])
def test_a_round_goes_on_from_its_checkpoint(federation: Federation, tmp_path: Path, strategy: Any) -> None:
    """An epoch, a power cut and the second epoch from the checkpoint are two epochs."""
    interrupted, undisturbed = opened(federation, "interrupted", "undisturbed")
    whole = make()
    whole.fails = False
    calm = FederatedCallback(undisturbed, model="digits", strategy=strategy, wait_s=30)
    train(whole, calm)

    first = make()
    with pytest.raises(RuntimeError, match="power cut"):
        train(
            first,
            FederatedCallback(interrupted, model="digits", strategy=strategy, wait_s=30),
            FirstEpoch(tmp_path),
        )
    resumed = make(seed=8)
    resumed.fails = False
    again = FederatedCallback(interrupted, model="digits", strategy=strategy, wait_s=30)
    train(resumed, again, ckpt_path=tmp_path / "epoch.ckpt")

    assert again.last_round is not None
    assert again.last_round.num_steps == 8
    for name, expected in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], expected), name
    if not isinstance(strategy, FedAvg):
        ours, theirs = again.personal_module().state_dict(), calm.personal_module().state_dict()
        for name, expected in theirs.items():
            assert torch.equal(ours[name], expected), name


def test_a_checkpoint_of_an_earlier_round_yields_to_the_newer_global_model(
    federation: Federation, tmp_path: Path
) -> None:
    """Its weights are stale; training starts from what the control plane has now."""
    (client,) = opened(federation, "device", num_rounds=2)
    callback = FederatedCallback(client, model="digits", wait_s=30)
    module = make()
    module.fails = False
    train(module, callback, FirstEpoch(tmp_path))
    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    newest = federation.global_state()

    class Watcher(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            for name, value in pl_module.state_dict().items():
                torch.testing.assert_close(value, newest[name], msg=name)

    train(module, callback, Watcher(), ckpt_path=tmp_path / "epoch.ckpt", max_epochs=4)

    assert callback.last_round.round_number == 2


class FromAnotherBase(FederatedCallback):
    """Writes checkpoints as if the round had started from another version of the global model."""

    @property
    @override
    def state_key(self) -> str:
        return FederatedCallback(model=self.model).state_key

    @override
    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state | {"round": state["round"] | {"base_version": "1-lost", "base_digest": "sha256:lost"}}


@pytest.mark.parametrize("strategy", [FedAvg(), FedPer(["classifier"]), Ditto(0.3)])
def test_a_checkpoint_that_trained_from_another_base_is_not_resumed(
    federation: Federation, tmp_path: Path, caplog: pytest.LogCaptureFixture, strategy: Any
) -> None:
    """Its weights less the base of now are no update; training starts from the received model, with a word.

    What is personal in it was pulled to that other base too: the device starts from what it kept before.
    """
    (client,) = opened(federation, "device")
    with pytest.raises(RuntimeError, match="power cut"):
        train(
            make(),
            FromAnotherBase(client, model="digits", strategy=strategy, wait_s=30),
            FirstEpoch(tmp_path),
        )
    module = make(seed=8)
    module.fails = False
    received = federation.global_state()
    callback = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)

    class Watcher(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.seen = {name: value.clone() for name, value in pl_module.state_dict().items()}
            training = callback._personal.training
            self.own = {} if training is None else copy.deepcopy(training.module.state_dict())

    watcher = Watcher()
    train(module, callback, watcher, ckpt_path=tmp_path / "epoch.ckpt")

    assert "trained from another version of the global model, 1-lost" in caplog.text
    assert callback.last_round is not None
    assert callback.last_round.num_steps == 4  # the second of two epochs: Lightning's own counters go on
    for state in (watcher.seen, watcher.own):
        for name, value in state.items():
            torch.testing.assert_close(value, received[name], msg=name)


@pytest.mark.parametrize("strategy", [FedPer(["classifier"]), Ditto(0.3)])
def test_personal_state_comes_back_from_a_checkpoint_where_the_store_is_lost(
    federation: Federation, tmp_path: Path, strategy: Any
) -> None:
    """A device that is set up anew from a checkpoint goes on with its own head or model."""
    (client,) = opened(federation, "device", num_rounds=2)
    callback = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)
    module = make()
    module.fails = False
    running = trainer(callback)
    running.fit(module, loader(digits_of(0)))
    running.save_checkpoint(tmp_path / "last.ckpt")
    expected = copy.deepcopy(callback.personal_module().state_dict())
    for path in client.device_dir.rglob("*.safetensors"):
        path.unlink()

    anew = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)

    class Watcher(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            side = anew._personal
            model = pl_module if side.training is None else side.training.module
            self.head = model.state_dict()["classifier.weight"].clone()

    watcher = Watcher()
    other = make(seed=8)
    other.fails = False
    trainer(anew, watcher, max_epochs=2).fit(
        other, loader(digits_of(0)), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )

    assert torch.equal(watcher.head, expected["classifier.weight"])


def test_a_copy_keeps_the_arguments_and_the_last_round_but_noconnection(federation: Federation) -> None:
    (client,) = opened(federation, "device")
    callback = FederatedCallback(client, model="digits", strategy=Ditto(0.1), wait_s=30)
    module = make()
    module.fails = False
    train(module, callback)

    for twin in (pickle.loads(pickle.dumps(callback)), copy.deepcopy(callback)):  # noqa: S301 - our own bytes
        assert twin.strategy == Ditto(0.1)
        assert twin.last_round == callback.last_round
        assert twin.connection.given is None


def test_a_client_can_be_made_when_it_is_first_needed(federation: Federation) -> None:
    """A function is what travels to other processes; what it makes is closed by the callback."""
    (client,) = opened(federation, "device", num_rounds=2)
    made: list[FederatedClient] = []

    def connect() -> FederatedClient:
        made.append(client)
        return client

    callback = FederatedCallback(connect, model="digits", wait_s=30)
    module = make()
    module.fails = False
    train(module, callback)
    train(module, callback)

    assert made == [client]
    callback.close()
    assert callback.connection._made is None


def test_without_a_client_the_environment_says_where_the_control_plane_is_and_which_device_trains(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEML_ORG_ID", federation.org_id)
    monkeypatch.setenv("EDGEML_API_BASE", federation.server.api_base)
    monkeypatch.setenv("EDGEML_DEVICE_ID", "mri-3")
    monkeypatch.setenv("EDGEML_TOKEN_STORAGE", "memory")

    callback = FederatedCallback(model="digits")
    client = callback.connection.client()

    assert (client.api_base, client.device_identifier) == (federation.server.api_base, "mri-3")
    callback.close()
