"""A DittoModule trains both models of Ditto by one optimizer, each as if it were alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from edgeml_client.errors import ConfigurationError
from edgeml_lightning import Ditto, DittoModule, FedAvg, FederatedCallback, FedPer, FedPerModule
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.personalization import strategy_for
from tests.lightning.federation import Batch, DigitsNet, Federation, digits_of, loader, seeded, trainer

LAMBDA, CLIP, LR, NUM_ROUNDS = 0.5, 0.2, 0.1, 3


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
        self.accuracy = MulticlassAccuracy(10, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Net(DittoModule):
    def __init__(self, lambda_ditto: float | None = LAMBDA) -> None:
        super().__init__(Network(), lambda_ditto=lambda_ditto)

    def training_step_of(self, model: nn.Module, batch: Batch, batch_idx: int) -> Tensor | None:
        loss = cross_entropy(model(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step_of(self, model: nn.Module, batch: Batch, batch_idx: int) -> None:
        model.accuracy(model(batch[0]), batch[1])
        self.log("accuracy", model.accuracy)

    test_step_of = validation_step_of

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR)


class Shared(nn.Module):
    """What the control plane holds: the shared model alone."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Network()


def joined(federation: Federation, *, num_rounds: int = 1, **arguments: Any) -> FederatedCallback:
    federation.register_model(seeded(Shared))
    client = federation.enrol("device")
    federation.open_rounds(num_rounds=num_rounds)
    return FederatedCallback(client, model="digits", wait_s=30, **arguments)


def step_by_hand(model: nn.Module, batch: Batch, anchor: dict[str, Tensor] | None) -> None:
    """W <- w - 0.1 clip(g + lambda (w - w^t)): each model is clipped by a norm of its own."""
    model.zero_grad()
    cross_entropy(model(batch[0]), batch[1]).backward()
    if anchor is not None:
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            parameter.grad += LAMBDA * (parameter.detach() - anchor[name])
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(LR * parameter.grad)


def test_both_models_follow_algorithm_1(federation: Federation) -> None:
    """Li et al., 2021, Algorithm 1, with one device: w^{t+1} = w_k, and v_k is pulled to w^t."""
    data = digits_of(0)
    shared = seeded(Shared).model
    personal = copy.deepcopy(shared)
    for _ in range(NUM_ROUNDS):
        anchor = {name: param.detach().clone() for name, param in shared.named_parameters()}
        for batch in loader(data):
            step_by_hand(shared, batch, None)
            step_by_hand(personal, batch, anchor)

    callback = joined(federation, num_rounds=NUM_ROUNDS)
    for _ in range(NUM_ROUNDS):
        module = seeded(Net, seed=5)  # made anew: the personal model comes back from the device's store
        trainer(callback, gradient_clip_val=CLIP).fit(module, loader(data))

    assert callback.last_round is not None
    assert callback.last_round.num_steps == len(loader(data))
    assert callback.personal_module() is module
    for ours, expected in ((module.model, shared), (module.personal_model, personal)):
        for name, parameter in expected.named_parameters():
            torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=0, atol=1e-6, msg=name)


def test_only_the_shared_model_travels(federation: Federation) -> None:
    callback = joined(federation)

    trainer(callback).fit(seeded(Net), loader(digits_of(0)))

    assert callback.last_round is not None
    assert callback.last_round.strategy == "ditto"
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    assert set(federation.global_state()) == {f"model.{name}" for name in Network().state_dict()}


def test_both_models_are_measured_by_metrics_of_their_own(federation: Federation) -> None:
    callback, data = joined(federation), loader(digits_of(0))
    module = seeded(Net)

    running = trainer(callback, num_sanity_val_steps=-1)
    running.fit(module, data, data)

    record = callback.last_round
    assert record is not None
    assert set(record.received_metrics) == {"accuracy"}
    assert set(record.local_metrics) == set(record.personal_metrics) == {"accuracy", "train_loss"}
    (tested,) = trainer().test(module, data, verbose=False)
    assert tested["accuracy"] == pytest.approx(record.local_metrics["accuracy"])
    assert tested["personal/accuracy"] == pytest.approx(record.personal_metrics["accuracy"])


def test_both_models_see_the_same_random_numbers(federation: Federation) -> None:
    """With strength 0 and dropout the two copies stay one model."""

    class Dropping(Net):
        def __init__(self) -> None:
            super().__init__(lambda_ditto=0.0)
            for model in (self.model, self.personal_model):
                model.layers[2] = nn.Dropout(0.5)

    module = seeded(Dropping)
    trainer(joined(federation), gradient_clip_val=0.01, gradient_clip_algorithm="value").fit(
        module, loader(digits_of(0))
    )

    for ours, theirs in zip(module.model.parameters(), module.personal_model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_calling_the_module_calls_the_personal_model() -> None:
    module, images = seeded(Net).eval(), digits_of(0).tensors[0]
    nn.init.zeros_(module.personal_model.layers[3].weight)

    assert torch.equal(module(images), module.personal_model(images))
    assert not torch.equal(module(images), module.model(images))


def test_a_batch_may_be_skipped_by_one_model_or_both() -> None:
    class Skipping(Net):
        def training_step_of(self, model: nn.Module, batch: Batch, batch_idx: int) -> Tensor | None:
            is_shared = model is self.model
            return None if batch_idx == 2 or is_shared == (batch_idx == 0) else torch.tensor(1.0 + is_shared)

    module = Skipping()

    assert [module.training_step(None, number) for number in range(3)] == [1.0, 2.0, None]


def test_a_subclass_writes_the_steps_it_needs() -> None:
    """Training is a must; validation and test measure nothing unless they are written."""
    module = DittoModule(nn.Linear(1, 1))

    module.validation_step(None, 0)
    module.test_step(None, 0)
    with pytest.raises(NotImplementedError, match="training_step_of"):
        module.training_step(None, 0)


def test_the_strength_must_be_a_finite_number_of_at_least_zero() -> None:
    with pytest.raises(ConfigurationError, match="lambda_ditto"):
        Net(lambda_ditto=-1.0)


def test_module_and_callback_must_agree() -> None:
    """Given twice and differently, nobody knows which was meant."""
    with pytest.raises(ConfigurationError, match="give it in one place"):
        strategy_for(Net(0.1), Ditto(0.2))
    with pytest.raises(ConfigurationError, match="DittoModule"):
        strategy_for(Net(0.1), FedAvg())
    for module, given in (
        (Net(0.1), None),
        (Net(None), Ditto(0.1)),
        (Net(0.1), Ditto()),
        (Net(0.1), Ditto(0.1)),
    ):
        chosen = strategy_for(module, given)
        assert isinstance(chosen, Ditto)
        assert chosen.lambda_ditto == 0.1
    compiled = strategy_for(Net(0.1), Ditto(compiled=True))
    assert isinstance(compiled, Ditto)
    assert compiled.compiled


def test_module_and_callback_must_agree_on_a_head_too() -> None:
    class Headed(FedPerModule):
        head_layers = ("head",)

    with pytest.raises(ConfigurationError, match="give it in one place"):
        strategy_for(Headed(), FedPer(["other"]))
    with pytest.raises(ConfigurationError, match="FedPerModule"):
        strategy_for(Headed(), FedAvg())
    assert strategy_for(Headed(), FedPer(buffers="local")) == FedPer(["head"], buffers="local")
    assert strategy_for(FedPerModule(), FedPer(["head"])) == FedPer(["head"])
    assert strategy_for(DigitsNet(), FedAvg()) == FedAvg()


def test_manual_optimization_is_refused() -> None:
    module = Net()
    module.automatic_optimization = False

    with pytest.raises(UnsupportedTrainingError, match="automatic_optimization"):
        strategy_for(module, None)


def test_an_optimizer_that_forgets_the_personal_model_is_refused(federation: Federation) -> None:
    class Forgetting(Net):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.model.parameters(), lr=LR)

    with pytest.raises(ConfigurationError, match=r"personal_model.*self.parameters\(\)"):
        trainer(joined(federation)).fit(seeded(Forgetting), loader(digits_of(0)))
