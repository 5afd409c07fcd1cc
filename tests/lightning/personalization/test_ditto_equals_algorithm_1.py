"""Both forms of Ditto follow its Algorithm 1, whatever Lightning does in between, and reach its optimum."""

from __future__ import annotations

import copy
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from edgeml_lightning import Ditto, DittoModule, FederatedCallback
from tests.lightning.callbacks import gradient_cases as ways
from tests.lightning.callbacks.gradient_cases import Case, Net, train_by_hand_
from tests.lightning.federation import Batch, Federation, trainer

LAMBDA, NUM_ROUNDS = 2.0, 2

CASES: dict[str, Case] = {
    "sgd": Case(),
    "momentum": Case(lambda params: SGD(params, lr=0.1, momentum=0.9)),
    "adam": Case(lambda params: Adam(params, lr=0.01)),
    "clipped by norm": Case(clip="norm"),
    "clipped by value": Case(clip="value"),
    "short last window, clipped, momentum": Case(
        lambda params: SGD(params, lr=0.1, momentum=0.9), accumulate=3, clip="norm"
    ),
    "bf16-mixed": Case(precision="bf16-mixed"),
    "bf16-mixed, clipped adam": Case(
        lambda params: Adam(params, lr=0.01), clip="norm", precision="bf16-mixed"
    ),
}
WITH_A_SCALER: dict[str, Case] = {
    "fp16 with a scaler, clipped": Case(clip="norm", precision="16-mixed"),
    "fp16, the optimizer unscales": Case(
        lambda params: SGD(params, lr=0.1, fused=True), precision="16-mixed"
    ),
}
"""For the module alone: two models under one scaler are refused beside a module."""


class Both(DittoModule):
    """The case's module, twice."""

    def __init__(self, case: Case, *, lambda_ditto: float = LAMBDA) -> None:
        super().__init__(case.make(), lambda_ditto=lambda_ditto)
        self.case = case

    def training_step_of(self, model: nn.Module, batch: Batch, batch_idx: int) -> Tensor:
        loss: Tensor = model.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return self.case.optimizer(self.parameters())


class Shared(nn.Module):
    """What the control plane holds of ``Both``."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.model = case.make()


def algorithm_1(case: Case) -> tuple[Net, Net]:
    """Return w and v after Li et al., 2021, Algorithm 1, with one device, so that w^{t+1} = w_k.

    In round t, w_k trains on F from w^t, and v_k goes on from where it was on F(v) + lambda/2 |v - w^t|^2.
    The optimizer of v keeps its memory over rounds; that of w starts anew with the model it receives.
    """
    shared = case.make()
    personal = copy.deepcopy(shared)
    of_personal = case.optimizers_of(personal)
    for _ in range(NUM_ROUNDS):
        anchors = [param.detach().clone() for param in shared.parameters()]
        train_by_hand_(shared, case, case.optimizers_of(shared), anchors=anchors, mu=0.0)
        train_by_hand_(personal, case, of_personal, anchors=anchors, mu=LAMBDA)
    return shared, personal


def assert_same(ours: nn.Module, expected: nn.Module) -> None:
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_beside_an_untouched_module(federation: Federation, case: Case) -> None:
    """Both models agree to 1e-6, and they lie far enough apart for that to say something."""
    shared, personal = algorithm_1(case)
    federation.register_model(case.make())
    client = federation.enrol("device")
    federation.open_rounds(num_rounds=NUM_ROUNDS)
    callback = FederatedCallback(client, model="digits", strategy=Ditto(LAMBDA), wait_s=30)
    module = case.module(case.optimizer)

    for _ in range(NUM_ROUNDS):
        trainer(callback, **case.trainer_arguments).fit(module, ways.data_loader())

    assert_same(module, shared)
    assert_same(callback.personal_module(), personal)
    assert float((shared.head.weight - personal.head.weight).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(
    "case", [*CASES.values(), *WITH_A_SCALER.values()], ids=[*CASES.keys(), *WITH_A_SCALER.keys()]
)
def test_in_a_ditto_module(federation: Federation, case: Case) -> None:
    """Clipping has a norm for each model: with one norm over both they would hold each other back."""
    shared, personal = algorithm_1(case)
    federation.register_model(Shared(case))
    client = federation.enrol("device")
    federation.open_rounds(num_rounds=NUM_ROUNDS)
    callback = FederatedCallback(client, model="digits", wait_s=30)
    module = Both(case)

    for _ in range(NUM_ROUNDS):
        running = trainer(callback, **case.trainer_arguments)
        running.fit(module, ways.data_loader())

    assert_same(module.model, shared)
    assert_same(module.personal_model, personal)
    figures = {"train_loss", "personal/train_loss"}
    assert {name for name in running.callback_metrics if "loss" in name} == figures


def test_a_ditto_module_of_strength_zero_trains_locally_bit_for_bit(federation: Federation) -> None:
    """Momentum, clipping and a short last window included; so do both models, which start alike."""
    case = CASES["short last window, clipped, momentum"]
    alone = case.make()
    trainer(**case.trainer_arguments).fit(alone, ways.data_loader())
    federation.register_model(Shared(case))
    client = federation.enrol("device")
    federation.open_rounds()
    module = Both(case, lambda_ditto=0.0)

    callback = FederatedCallback(client, model="digits", wait_s=30)
    trainer(callback, **case.trainer_arguments).fit(module, ways.data_loader())

    for name, expected in alone.state_dict().items():
        assert torch.equal(module.personal_model.state_dict()[name], expected), name
        assert torch.equal(module.model.state_dict()[name], expected), name


# Federated point estimation (Li et al., 2021, section 3.3 and appendix).

NUM_DEVICES, NUM_TRIALS = 16, 20_000
VARIANCE_OF_MEANS = 1.0  # tau^2, of the devices' true values around a common one
VARIANCE_OF_ATTACKS = 25.0  # tau_a^2, of what malicious devices send
NOISE = 32 / 15  # sigma^2 / n, of the mean of a device's n samples around its true value


def best_lambda(num_malicious: int) -> float:
    """Return the lambda with which an honest device estimates its true value best.

    Device k of K has the true value w_k ~ N(theta, tau^2) and sees the mean x_k = w_k + e_k of its samples,
    e_k ~ N(0, s^2) with s^2 = sigma^2 / n. FedAvg on 1/2 (w - x_k)^2 gives the mean m = sum_j x_j / K, and
    Ditto on 1/2 (v - x_k)^2 + lambda/2 (v - m)^2 gives v = (x_k + lambda m) / (1 + lambda). So

        v - w_k = (e_k + lambda d) / (1 + lambda),     d = m - w_k,

    whose expected square is (A + 2 lambda B + lambda^2 C) / (1 + lambda)^2 with A = E e_k^2 = s^2,
    B = E e_k d = s^2 / K and C = E d^2. Its derivative vanishes where (B + lambda C)(1 + lambda) =
    A + 2 lambda B + lambda^2 C, that is at lambda* = (A - B) / (C - B). With K_a malicious devices, whose
    values have the variance tau_a^2 instead,

        C = tau^2 ((K - K_a - 1) / K^2 + (1 - 1/K)^2) + tau_a^2 K_a / K^2 + s^2 / K.

    Without any, C - B = tau^2 (1 - 1/K), and lambda* = s^2 / tau^2 = sigma^2 / (n tau^2), as in the paper.
    """
    k = NUM_DEVICES
    honest = ((k - num_malicious - 1) / k**2 + (1 - 1 / k) ** 2) * VARIANCE_OF_MEANS
    between = honest + VARIANCE_OF_ATTACKS * num_malicious / k**2
    return NOISE * (1 - 1 / k) / between


class PointEstimate(L.LightningModule):
    """Many independent trials at once, one in each coordinate."""

    def __init__(self, estimate: Tensor, *, learning_rate: float) -> None:
        super().__init__()
        self.estimate = nn.Parameter(estimate.clone())
        self.learning_rate = learning_rate

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return 0.5 * (self.estimate - batch[0].mean(dim=0)).square().sum()

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=self.learning_rate)


@pytest.mark.parametrize(("num_malicious", "known"), [(0, 2.133), (8, 1.185)], ids=["clean", "attacked"])
def test_the_error_is_least_at_the_closed_form(
    federation: Federation, num_malicious: int, known: float
) -> None:
    """Of five strengths around lambda* the one in the middle estimates best, over 20,000 trials.

    From sample moments lambda* comes out within 1.5 %; neighbours are 15 % away. One step of
    1 / (1 + lambda) reaches the optimum of a quadratic whose curvature is 1 + lambda.
    """
    generator = torch.Generator().manual_seed(0)
    spread = torch.full((NUM_DEVICES, 1), VARIANCE_OF_MEANS**0.5)
    spread[NUM_DEVICES - num_malicious :] = VARIANCE_OF_ATTACKS**0.5
    true_values = spread * torch.randn(NUM_DEVICES, NUM_TRIALS, generator=generator)
    noise = NOISE**0.5 * torch.randn(NUM_DEVICES, NUM_TRIALS, generator=generator)
    means = true_values + noise
    received, mine = means.mean(dim=0), means[0]
    strengths = [best_lambda(num_malicious) * 1.15**power for power in (-2, -1, 0, 1, 2)]
    client, errors = federation.enrol("device"), []

    for number, strength in enumerate(strengths):
        name = f"estimate-{number}"
        federation.register_model(PointEstimate(received, learning_rate=1.0), name=name)
        federation.server.create_round(org_id=federation.org_id, model=name)
        callback = FederatedCallback(client, model=name, strategy=Ditto(strength), wait_s=30)
        module = PointEstimate(torch.zeros(NUM_TRIALS), learning_rate=1 / (1 + strength))
        trainer(callback).fit(module, DataLoader(TensorDataset(mine.unsqueeze(0))))
        estimate = callback.personal_module().get_parameter("estimate").detach()
        torch.testing.assert_close(estimate, (mine + strength * received) / (1 + strength), rtol=0, atol=2e-6)
        errors.append(float((estimate - true_values[0]).square().mean()))

    assert best_lambda(num_malicious) == pytest.approx(known, abs=5e-4)
    assert errors.index(min(errors)) == 2, errors
