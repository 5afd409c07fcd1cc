"""SCAFFOLD agrees with its algorithm written by hand, and refuses what would not be it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor
from torch.optim.lr_scheduler import StepLR

from edgeml_client import DeltaFilter, FilterRegistry
from edgeml_client.errors import ConfigurationError, ConnectionFailedError, RoundClosedError
from edgeml_client.filters import FilterEffects
from edgeml_lightning import FedAvg, FederatedCallback, Scaffold
from edgeml_lightning.errors import FederationError, UnsupportedTrainingError
from tests.lightning.by_hand import (
    NUM_DEVICES,
    NUM_ROUNDS,
    Arrays,
    PowerCut,
    arrays_of,
    assert_same,
    backward_,
    mean_change,
    run_rounds,
    shards,
)
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer

LR, WEIGHT_DECAY, NUM_EPOCHS = 0.1, 0.01, 2


class Net(DigitsNet):
    """Its learning rate halves after the third step of a round."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
        return [optimizer], [{"scheduler": StepLR(optimizer, 3, gamma=0.5), "interval": "step"}]


PARAMETERS = [name for name, _ in Net().named_parameters()]


class ByHand:
    """Karimireddy et al., 2020, Algorithm 1 with Option II and a global step size of 1."""

    def __init__(self, *, counts: list[int], fraction: float = 1.0) -> None:
        self.model = arrays_of(seeded(Net))
        self.server = {name: torch.zeros_like(self.model[name]) for name in PARAMETERS}
        self.devices = [dict(self.server) for _ in range(NUM_DEVICES)]
        self.counts, self.fraction = counts, fraction

    def play(self, cohort: list[int]) -> None:
        after, changes = [], []
        for index in cohort:
            trained, variate = self.train(self.devices[index], shards()[index])
            changes.append({name: variate[name] - self.devices[index][name] for name in PARAMETERS})
            self.devices[index] = variate
            after.append(trained)
        counts = [self.counts[index] for index in cohort]
        floating = [name for name, value in self.model.items() if value.is_floating_point()]
        self.model = mean_change(self.model, after, counts, floating)
        for name in PARAMETERS:
            total = sum(count * change[name] for count, change in zip(counts, changes, strict=True))
            self.server[name] = self.server[name] + self.fraction * total / sum(counts)

    def train(self, own: Arrays, data: Any) -> tuple[Arrays, Arrays]:
        """Return y_i and c_i+ = c_i - c + (x - y_i) / sum of the learning rates."""
        local = Net()
        local.load_state_dict(self.model)
        rates: list[float] = []
        for _ in range(NUM_EPOCHS):
            for batch in loader(data):
                rates.append(LR * 0.5 ** (len(rates) // 3))
                backward_(local, batch)
                with torch.no_grad():
                    for name, parameter in local.named_parameters():
                        gradient = parameter.grad + WEIGHT_DECAY * parameter
                        parameter.sub_(rates[-1] * (gradient - own[name] + self.server[name]))
        trained = arrays_of(local)
        variate = {
            name: own[name] - self.server[name] + (self.model[name] - trained[name]) / sum(rates)
            for name in PARAMETERS
        }
        return trained, variate

    def assert_same_as(self, federation: Federation, callbacks: dict[int, FederatedCallback]) -> None:
        ours = federation.global_state()
        assert_same(ours, self.model)
        assert_same(ours, {f"scaffold/{name}": value for name, value in self.server.items()})
        for index, callback in callbacks.items():
            expected = {f"scaffold/{name}": value for name, value in self.devices[index].items()}
            assert_same(callback.state_dict()["personal"]["arrays"], expected)


@pytest.mark.parametrize("sample_count", [1, None], ids=["the paper's uniform mean", "weighed by samples"])
def test_rounds_agree_with_scaffold_by_hand(federation: Federation, sample_count: int | None) -> None:
    """Every device takes part, so that c is the mean of the c_i after every round."""
    by_hand = ByHand(counts=[sample_count or len(shard) for shard in shards()])
    for _ in range(NUM_ROUNDS):
        by_hand.play([0, 1, 2])

    callbacks = run_rounds(
        federation, strategy=Scaffold(), make=Net, sample_count=sample_count, max_epochs=NUM_EPOCHS
    )

    by_hand.assert_same_as(federation, dict(enumerate(callbacks)))
    for name in PARAMETERS:
        pairs = zip(by_hand.counts, by_hand.devices, strict=True)
        mean = sum(count * own[name] for count, own in pairs) / sum(by_hand.counts)
        torch.testing.assert_close(by_hand.server[name], mean, rtol=0, atol=1e-5)


def test_drawn_cohorts_move_the_global_variate_by_their_share(federation: Federation) -> None:
    """Two of three devices are drawn: c moves by 2/3 of the mean change, and the third keeps its c_i."""
    strategy = Scaffold()
    federation.register_model_state(strategy.shared_state(seeded(Net)))
    clients = [federation.enrol(f"device-{index}") for index in range(NUM_DEVICES)]
    status = federation.open_rounds(
        num_rounds=4,
        min_updates=2,
        cohort_size=2,
        seed=3,
        config={"strategy": "scaffold", "cohort_fraction": 2 / 3},
    )
    by_hand = ByHand(counts=[len(shard) for shard in shards()], fraction=2 / 3)
    callbacks: dict[int, FederatedCallback] = {}
    cohorts: list[list[int]] = []
    round_id: str | None = status.round_id
    while round_id is not None:
        chosen = [
            index
            for index, client in enumerate(clients)
            if client.get_round_assignment(model="digits") is not None
        ]
        for index in chosen:
            callbacks[index] = FederatedCallback(clients[index], model="digits", wait_s=30)
            trainer(callbacks[index], max_epochs=NUM_EPOCHS).fit(seeded(Net), loader(shards()[index]))
        cohorts.append(chosen)
        by_hand.play(chosen)
        round_id = federation.server.wait_for_round(round_id, timeout_s=30).next_round_id

    assert len(cohorts) == 4
    assert len({tuple(cohort) for cohort in cohorts}) > 1
    by_hand.assert_same_as(federation, callbacks)


def begin(federation: Federation, module: Any, **arguments: Any) -> FederatedCallback:
    """Register the module's model with its variates, open a round, and return a callback for it."""
    federation.register_model_state(Scaffold().shared_state(module))
    client = federation.enrol("device")
    federation.open_rounds(**arguments)
    return FederatedCallback(client, model="digits", strategy=Scaffold(), wait_s=30)


def test_a_late_device_keeps_its_variate_as_it_was(federation: Federation) -> None:
    """The global variate did not follow its round, so its own must not either."""
    callback = begin(federation, seeded(Net), num_rounds=2)
    late = federation.clients[0]

    class TooLate(L.Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            assignment = late.get_round_assignment(model="digits")
            assert assignment is not None
            federation.server.cancel_round(assignment.round_id)

    trainer(callback).fit(seeded(Net), loader(digits_of(0)))
    before = callback.state_dict()["personal"]["arrays"]
    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    with pytest.raises(RoundClosedError):
        trainer(callback, TooLate()).fit(seeded(Net), loader(digits_of(0)))

    assert_next_round_starts_from(before, federation)


def assert_next_round_starts_from(before: Arrays, federation: Federation) -> None:
    federation.open_rounds()
    again = FederatedCallback(federation.clients[0], model="digits", strategy=Scaffold(), wait_s=30)

    class Watcher(L.Callback):
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.arrays = again.state_dict()["personal"]["arrays"]

    watcher = Watcher()
    trainer(again, watcher).fit(seeded(Net), loader(digits_of(0)))
    assert any(bool(value.any()) for value in before.values())
    assert watcher.arrays.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(watcher.arrays[name], value), name


def test_an_update_that_is_refused_when_it_is_sent_at_last_takes_its_variate_back(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network fails at the upload, the round ends meanwhile, and a later start hears the refusal."""
    callback = begin(federation, seeded(Net), num_rounds=2)
    client = federation.clients[0]
    trainer(callback).fit(seeded(Net), loader(digits_of(0)))
    before = callback.state_dict()["personal"]["arrays"]
    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    assignment = client.get_round_assignment(model="digits")
    assert assignment is not None

    class Unplugged(L.Callback):
        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            def fail(_: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
                raise httpx.ConnectError("unplugged", request=request)

            monkeypatch.setattr(httpx.Client, "send", fail)

    with pytest.raises(ConnectionFailedError, match="will be sent by flush_outbox"):
        trainer(callback, Unplugged()).fit(seeded(Net), loader(digits_of(0)))
    monkeypatch.undo()
    federation.server.cancel_round(assignment.round_id)

    report = client.flush_outbox()

    assert [type(refusal) for refusal in report.rejected] == [RoundClosedError]
    assert_next_round_starts_from(before, federation)


def test_a_round_goes_on_from_its_checkpoint_with_its_variates(
    federation: Federation, tmp_path: Path
) -> None:
    """An epoch, a power cut and the second epoch from the checkpoint give the variate of two epochs."""
    federation.register_model_state(Scaffold().shared_state(seeded(Net)))
    clients = [federation.enrol(name) for name in ("undisturbed", "interrupted")]
    federation.open_rounds(min_updates=2)
    calm, cut, again = (
        FederatedCallback(client, model="digits", strategy=Scaffold(), wait_s=30)
        for client in (clients[0], clients[1], clients[1])
    )
    trainer(calm, max_epochs=2).fit(seeded(Net), loader(digits_of(0)))

    path = tmp_path / "epoch.ckpt"
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(cut, PowerCut(path), max_epochs=2).fit(seeded(Net), loader(digits_of(0)))
    trainer(again, max_epochs=2).fit(
        seeded(Net, seed=9), loader(digits_of(0)), ckpt_path=path, weights_only=True
    )

    expected: dict[str, Tensor] = calm.state_dict()["personal"]["arrays"]
    ours = again.state_dict()["personal"]["arrays"]
    assert sorted(ours) == sorted(f"scaffold/{name}" for name in PARAMETERS)
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


def test_a_short_window_counts_as_the_part_of_a_step_that_it_is(federation: Federation) -> None:
    """Four batches in windows of three: Lightning scales the loss of the last by 1/3, and its step with it.

    The first round starts with c = c_i = 0, so that c_i+ = (x - y) / (0.1 + 0.1 / 3).
    """
    callback = begin(federation, seeded())
    module = seeded()

    trainer(callback, accumulate_grad_batches=3).fit(module, loader(digits_of(0)))

    arrays = callback.state_dict()["personal"]["arrays"]
    start = arrays_of(seeded())
    for name, parameter in module.named_parameters():
        expected = (start[name] - parameter.detach()) / (LR + LR / 3)
        torch.testing.assert_close(arrays[f"scaffold/{name}"], expected, rtol=0, atol=1e-6)


def test_a_device_of_another_strategy_leaves_the_variates_alone(federation: Federation) -> None:
    begin(federation, seeded(Net))
    callback = FederatedCallback(federation.clients[0], model="digits", strategy=FedAvg(), wait_s=30)

    trainer(callback).fit(seeded(Net), loader(digits_of(0)))

    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    state = federation.global_state()
    assert not state["scaffold/classifier.weight"].any()
    assert not torch.equal(state["classifier.weight"], seeded(Net).classifier.weight)


def test_a_parameter_that_takes_no_part_has_no_variate_to_speak_of(federation: Federation) -> None:
    """An unused layer has the gradient zero, a frozen one no variate at all."""

    class Partly(Net):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Linear(2, 2)
            self.classifier.bias.requires_grad_(requires_grad=False)

    callback = begin(federation, seeded(Partly))

    trainer(callback).fit(seeded(Partly), loader(digits_of(0)))

    arrays = callback.state_dict()["personal"]["arrays"]
    assert not arrays["scaffold/unused.weight"].any()
    assert "scaffold/classifier.bias" not in arrays


def test_variates_are_no_personal_model(federation: Federation) -> None:
    callback = begin(federation, seeded(Net))

    trainer(callback).fit(seeded(Net), loader(digits_of(0)))

    with pytest.raises(FederationError, match="left no personal model"):
        callback.personal_module()


def test_a_global_model_without_variates_is_refused(federation: Federation) -> None:
    federation.register_model(seeded(Net))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=Scaffold(), wait_s=30)

    with pytest.raises(ConfigurationError, match=r"register Scaffold\(...\).shared_state\(module\)"):
        trainer(callback).fit(seeded(Net), loader(digits_of(0)))


@pytest.mark.parametrize(
    ("optimizer", "described"),
    [
        (lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9), "not SGD with momentum"),
        (torch.optim.Adam, "not Adam,"),
    ],
)
def test_an_optimizer_with_a_memory_is_refused(
    federation: Federation, optimizer: Any, described: str
) -> None:
    class Other(DigitsNet):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            chosen: torch.optim.Optimizer = optimizer(self.parameters())
            return chosen

    callback = begin(federation, seeded(Other))

    with pytest.raises(UnsupportedTrainingError, match=described):
        trainer(callback).fit(seeded(Other), loader(digits_of(0)))


def test_a_scaler_that_may_leave_out_steps_is_refused(federation: Federation) -> None:
    callback = begin(federation, seeded(Net))

    with pytest.raises(UnsupportedTrainingError, match="may leave out a step unseen"):
        trainer(callback, plugins=[MixedPrecision("16-mixed", "cpu")]).fit(seeded(Net), loader(digits_of(0)))


def test_a_filter_that_weighs_variates_against_the_model_is_refused(federation: Federation) -> None:
    """The round's ``clip_norm`` as well as the user's own filters."""
    callback = begin(federation, seeded(Net), config={"clip_norm": 1.0})
    callback.filters = ({"type": "gaussian_noise", "sigma": 0.1},)

    with pytest.raises(UnsupportedTrainingError, match="gaussian_noise, gradient_clip may weigh"):
        trainer(callback).fit(seeded(Net), loader(digits_of(0)))


def test_a_filter_that_declares_to_keep_arrays_apart_is_let_through(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clamp(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
            return {name: array.clip(-0.5, 0.5) for name, array in delta.items()}

    FilterRegistry.register("clamp", Clamp)
    try:
        callback = begin(federation, seeded(Net))
        callback.filters = ({"type": "clamp"},)
        with pytest.raises(UnsupportedTrainingError, match=r"clamp may weigh.*arrays_apart=True"):
            trainer(callback).fit(seeded(Net), loader(digits_of(0)))

        monkeypatch.setattr(Clamp, "effects", FilterEffects(arrays_apart=True))
        trainer(callback).fit(seeded(Net), loader(digits_of(0)))
        assert callback.last_receipt is not None
    finally:
        FilterRegistry.unregister("clamp")
