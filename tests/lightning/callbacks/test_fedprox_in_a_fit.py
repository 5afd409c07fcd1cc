"""FedProx in a Trainer equals a module that has the term in its loss, whatever Lightning does in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from edgeml_lightning import FederatedCallback, FedProx
from edgeml_lightning.functional import proximal_penalty
from tests.lightning.federation import Batch, DigitsNet, Federation, digits_of, loader, seeded, trainer

MU = 0.5

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda params: SGD(params, lr=0.1),
    "momentum": lambda params: SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: Adam(params, lr=0.01),
    "adamw": lambda params: AdamW(params, lr=0.01, weight_decay=0.1),
}
TRAINERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped by norm": {"gradient_clip_val": 0.3},
    "clipped by value": {"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"},
    "short last window": {"accumulate_grad_batches": 3, "gradient_clip_val": 0.3},
}


class Net(DigitsNet):
    """Optionally with the term in its loss."""

    make_optimizer: Callable[..., Optimizer]
    anchors: list[Tensor] | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return (
            loss if self.anchors is None else loss + proximal_penalty(self.parameters(), self.anchors, mu=MU)
        )

    def configure_optimizers(self) -> Optimizer:
        return self.make_optimizer(self.parameters())


def reference(make_optimizer: Callable[..., Optimizer], **arguments: Any) -> dict[str, Tensor]:
    """Train with the term in the loss, without a federation."""
    module = seeded(Net)
    module.make_optimizer = make_optimizer
    module.anchors = [param.detach().clone() for param in module.parameters()]
    trainer(max_epochs=2, **arguments).fit(module, loader(digits_of(0)))
    return dict(module.state_dict())


def federated(federation: Federation, module: Any, **arguments: Any) -> dict[str, Tensor]:
    """Train a round of FedProx that starts from the same model."""
    federation.register_model(seeded())
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=FedProx(MU), wait_s=30)
    trainer(callback, max_epochs=2, **arguments).fit(module, loader(digits_of(0)))
    return dict(module.state_dict())


@pytest.mark.parametrize(
    ("optimizer", "how"),
    [
        ("sgd", "plain"),
        ("sgd", "short last window"),
        ("momentum", "clipped by norm"),
        ("adam", "clipped by value"),
        ("adamw", "short last window"),
    ],
)
def test_a_round_equals_the_term_in_the_loss(federation: Federation, optimizer: str, how: str) -> None:
    """Four batches in windows of three end with a window of one, whose term weighs 1/3 as its loss does."""
    module = seeded(Net, seed=3)
    module.make_optimizer = OPTIMIZERS[optimizer]

    ours = federated(federation, module, **TRAINERS[how])

    for name, expected in reference(OPTIMIZERS[optimizer], **TRAINERS[how]).items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-6, msg=name)


def test_frozen_and_unused_parameters_stay(federation: Federation) -> None:
    module = seeded(Net, seed=3)
    module.make_optimizer = OPTIMIZERS["sgd"]
    module.classifier.bias.requires_grad_(requires_grad=False)

    ours = federated(federation, module)

    assert torch.equal(ours["classifier.bias"], seeded().classifier.bias)


def test_two_optimizers_by_hand_each_get_their_part(federation: Federation) -> None:
    """Manual optimization, body and head with optimizers of their own."""

    class Manual(Net):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> None:
            optimizers: Any = self.optimizers()
            for optimizer in optimizers:
                optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            for optimizer in optimizers:
                optimizer.step()

        def configure_optimizers(self) -> Any:
            parts: list[nn.Module] = [self.body, self.classifier]
            return [SGD(part.parameters(), lr=0.1) for part in parts]

    ours = federated(federation, seeded(Manual, seed=3))

    for name, expected in reference(OPTIMIZERS["sgd"]).items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("fused", [False, True], ids=["unscaled by Lightning", "unscaled by the optimizer"])
def test_a_gradient_scaler_does_not_hide_the_term(federation: Federation, fused: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Under fp16 gradients are scaled by 2^16; a fused optimizer sees them so, and the term must be too.

    The two agree to half precision of the forward pass; without the scale the term would vanish.
    """

    def make_optimizer(params: Any) -> Optimizer:
        return SGD(params, lr=0.1, fused=fused)

    module = seeded(Net, seed=3)
    module.make_optimizer = make_optimizer

    ours = federated(federation, module, plugins=[MixedPrecision("16-mixed", "cpu")])

    expected = reference(make_optimizer, plugins=[MixedPrecision("16-mixed", "cpu")])
    without = seeded(Net)
    without.make_optimizer = make_optimizer
    trainer(max_epochs=2, plugins=[MixedPrecision("16-mixed", "cpu")]).fit(without, loader(digits_of(0)))
    error = (ours["body.0.weight"] - expected["body.0.weight"]).norm()
    effect = (without.state_dict()["body.0.weight"] - expected["body.0.weight"]).norm()
    assert error < 0.01 * effect
