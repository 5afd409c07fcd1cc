"""APFL agrees with its algorithm written by hand: two models, and a mixture that is used and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from edgeml_lightning import APFL, FederatedCallback
from edgeml_lightning.errors import UnsupportedTrainingError
from tests.lightning.by_hand import (
    LR,
    MOMENTUM,
    NUM_DEVICES,
    NUM_ROUNDS,
    Arrays,
    PowerCut,
    arrays_of,
    assert_same,
    mean_change,
    run_rounds,
    shards,
)
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer

ALPHA = 0.3
STATISTICS = ["body.1.running_mean", "body.1.running_var"]


class Net(DigitsNet):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM)


PARAMETERS = [name for name, _ in Net().named_parameters()]


def gradient_at(weights: Arrays, buffers: Arrays, batch: Any) -> Arrays:
    """Return the gradient of the loss at ``weights``; the statistics in ``buffers`` see the batch."""
    images, labels = batch
    leaves = {name: weights[name].clone().requires_grad_() for name in PARAMETERS}
    loss = cross_entropy(functional_call(Net(), (leaves, buffers), images), labels)
    return dict(zip(PARAMETERS, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def step_(weights: Arrays, memory: Arrays, gradient: Arrays) -> None:
    for name in PARAMETERS:
        memory[name] = MOMENTUM * memory.get(name, torch.tensor(0.0)) + gradient[name]
        weights[name] = weights[name] - LR * memory[name]


class OnDevice:
    """What stays on a device: v, its statistics and momentum, and alpha."""

    def __init__(self, start: Arrays) -> None:
        self.own = {name: start[name] for name in PARAMETERS}
        self.buffers = {name: start[name].clone() for name in start if name not in PARAMETERS}
        self.memory: Arrays = {}
        self.alpha = ALPHA

    def mixed(self, shared: Arrays) -> Arrays:
        return {name: self.alpha * self.own[name] + (1 - self.alpha) * shared[name] for name in PARAMETERS}

    def train(self, base: Arrays, data: Any, *, rate: float) -> Arrays:
        """One epoch of Algorithm 1: both gradients are taken before either model moves. Returns w."""
        shared = {name: base[name] for name in PARAMETERS}
        buffers = {name: base[name].clone() for name in base if name not in PARAMETERS}
        memory: Arrays = {}
        for batch in loader(data):
            plain = gradient_at(shared, buffers, batch)
            at_mixture = gradient_at(self.mixed(shared), self.buffers, batch)
            slope = sum(
                float(((self.own[name] - shared[name]) * at_mixture[name]).sum()) for name in PARAMETERS
            )
            step_(shared, memory, plain)
            step_(self.own, self.memory, {name: self.alpha * value for name, value in at_mixture.items()})
            self.alpha = min(1.0, max(0.0, self.alpha - rate * slope))
        self.last_shared = shared
        return shared | buffers


@pytest.mark.parametrize("rate", [0.0, 0.5], ids=["alpha is fixed", "alpha is adapted"])
def test_rounds_agree_with_apfl_by_hand(federation: Federation, rate: float) -> None:
    """Deng et al., 2020, Algorithm 1 and its step of alpha; w is averaged, v and alpha stay."""
    base = arrays_of(seeded(Net))
    devices = [OnDevice(base) for _ in range(NUM_DEVICES)]
    sent = [name for name, value in base.items() if value.is_floating_point()]
    for _ in range(NUM_ROUNDS):
        after = [
            device.train(base, shard, rate=rate) for device, shard in zip(devices, shards(), strict=True)
        ]
        base = mean_change(base, after, [len(shard) for shard in shards()], sent)

    callbacks = run_rounds(federation, strategy=APFL(ALPHA, alpha_rate=rate), make=Net)

    assert_same(federation.global_state(), base)
    assert {device.alpha == ALPHA for device in devices} == {rate == 0}
    for callback, device in zip(callbacks, devices, strict=True):
        saved = callback.state_dict()["personal"]["arrays"]
        if rate:
            assert float(saved["apfl/alpha"]) == pytest.approx(device.alpha, abs=1e-6)
        assert_same({name: saved[f"personal/{name}"] for name in PARAMETERS}, device.own)
        personal = arrays_of(callback.personal_module())
        assert_same(personal, device.mixed(device.last_shared))
        assert_same(personal, {name: device.buffers[name] for name in STATISTICS})


def fit(federation: Federation, strategy: APFL, **arguments: Any) -> tuple[Net, FederatedCallback]:
    federation.register_model(seeded(Net))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)
    module = seeded(Net)
    trainer(callback, **arguments).fit(module, loader(digits_of(0)), loader(digits_of(1)))
    return module, callback


def test_a_share_of_one_is_local_training_to_the_bit(federation: Federation) -> None:
    """In windows of three batches, the last of them short, and with clipping."""
    arguments = {"accumulate_grad_batches": 3, "gradient_clip_val": 0.2, "max_epochs": 2}
    alone = seeded(Net)
    trainer(**arguments).fit(alone, loader(digits_of(0)))

    module, callback = fit(federation, APFL(1.0), **arguments)

    for name, expected in alone.state_dict().items():
        assert torch.equal(callback.personal_module().state_dict()[name], expected), name
        assert torch.equal(module.state_dict()[name], expected), name


def test_a_share_that_is_adapted_from_a_later_round_on_starts_from_the_one_that_was_given(
    federation: Federation,
) -> None:
    """What the device trained before is kept, with the rate switched on and with it switched off again."""
    federation.register_model(seeded(Net))
    client = federation.enrol("device")
    federation.open_rounds(num_rounds=3)
    kept: list[Arrays] = []
    for rate in (0.0, 0.1, 0.0):
        callback = FederatedCallback(client, model="digits", strategy=APFL(ALPHA, alpha_rate=rate), wait_s=30)
        start: list[Arrays] = []

        class Watcher(L.Callback):
            def on_train_start(
                self,
                trainer: L.Trainer,
                pl_module: L.LightningModule,
                callback: FederatedCallback = callback,
                start: list[Arrays] = start,
            ) -> None:
                start.append(callback.state_dict()["personal"]["arrays"])

        trainer(callback, Watcher()).fit(seeded(Net), loader(digits_of(0)))
        for name, value in kept[-1].items() if kept else ():
            assert name == "apfl/alpha" or torch.equal(start[0][name], value), name
        if rate:
            assert start[0]["apfl/alpha"].item() == pytest.approx(ALPHA)
        kept.append(callback.state_dict()["personal"]["arrays"])

    assert [arrays.keys() - kept[0].keys() for arrays in kept] == [set(), {"apfl/alpha"}, set()]


def test_a_share_of_none_is_the_shared_model(federation: Federation) -> None:
    module, callback = fit(federation, APFL(0.0))

    for name in PARAMETERS:
        assert torch.equal(callback.personal_module().state_dict()[name], module.state_dict()[name]), name


def test_the_personal_figures_are_those_of_the_mixture(federation: Federation) -> None:
    _, callback = fit(federation, APFL(ALPHA))

    assert callback.last_round is not None
    (figures,) = trainer().validate(callback.personal_module(), loader(digits_of(1)), verbose=False)
    assert callback.last_round.personal_metrics["val_loss"] == pytest.approx(figures["val_loss"])


def test_a_round_goes_on_from_its_checkpoint_with_its_mixture(federation: Federation, tmp_path: Path) -> None:
    """An epoch, a power cut and the second epoch from the checkpoint are two epochs, in v, w and alpha."""
    federation.register_model(seeded(Net))
    clients = [federation.enrol(name) for name in ("undisturbed", "interrupted")]
    federation.open_rounds(min_updates=2)
    strategy = APFL(ALPHA, alpha_rate=0.5)
    calm, cut, again = (
        FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)
        for client in (clients[0], clients[1], clients[1])
    )
    data = loader(digits_of(0))
    trainer(calm, max_epochs=2).fit(seeded(Net), data)

    path = tmp_path / "epoch.ckpt"
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(cut, PowerCut(path), max_epochs=2).fit(seeded(Net), data)
    trainer(again, max_epochs=2).fit(seeded(Net, seed=9), data, ckpt_path=path, weights_only=True)

    expected: dict[str, Tensor] = calm.state_dict()["personal"]["arrays"]
    ours = again.state_dict()["personal"]["arrays"]
    assert sorted(ours) == sorted(expected)
    assert "apfl/alpha" in expected
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


def test_a_module_that_optimizes_by_hand_is_refused(federation: Federation) -> None:
    class Manual(Net):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

    federation.register_model(seeded(Manual))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=APFL(ALPHA), wait_s=30)

    with pytest.raises(UnsupportedTrainingError, match="APFL cannot train a personal copy"):
        trainer(callback).fit(seeded(Manual), loader(digits_of(0)))
