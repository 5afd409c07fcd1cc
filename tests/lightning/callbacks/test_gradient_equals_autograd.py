"""FedProx in a Trainer equals the term in the loss, whatever Lightning does in between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW

from edgeml_lightning import FederatedCallback, FedProx
from tests.lightning.callbacks import gradient_cases as ways
from tests.lightning.callbacks.gradient_cases import Case, trained_by_hand
from tests.lightning.federation import Federation, trainer

MU = 2.0

CASES: dict[str, Case] = {
    "sgd": Case(),
    "momentum": Case(lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True)),
    "adam": Case(lambda params: Adam(params, lr=0.01)),
    "adamw": Case(lambda params: AdamW(params, lr=0.01, weight_decay=0.1)),
    "fused sgd": Case(lambda params: SGD(params, lr=0.1, momentum=0.9, fused=True)),
    "fused adamw": Case(lambda params: AdamW(params, lr=0.01, fused=True)),
    "clipped by norm": Case(clip="norm"),
    "clipped by value": Case(clip="value"),
    "clipped adam": Case(lambda params: Adam(params, lr=0.01), clip="norm"),
    "windows of two": Case(accumulate=2),
    "short last window": Case(accumulate=3),
    "short last window, clipped by norm, momentum": Case(
        lambda params: SGD(params, lr=0.1, momentum=0.9), accumulate=3, clip="norm"
    ),
    "short last window, adamw, clipped by value": Case(
        lambda params: AdamW(params, lr=0.01), accumulate=3, clip="value"
    ),
    "a batch skipped": Case(module=ways.Skipping),
    "a batch skipped in a window": Case(module=ways.Skipping, accumulate=2),
    "bf16-mixed": Case(precision="bf16-mixed"),
    "bf16-mixed, short last window, clipped": Case(precision="bf16-mixed", accumulate=3, clip="norm"),
    "fp16 with a scaler": Case(precision="16-mixed"),
    "fp16 with a scaler, clipped": Case(precision="16-mixed", clip="norm"),
    "fp16 with a scaler, short last window": Case(precision="16-mixed", accumulate=3),
    "fp16, the optimizer unscales": Case(
        lambda params: AdamW(params, lr=0.01, fused=True), precision="16-mixed"
    ),
    "fp16, the optimizer unscales, short last window": Case(
        lambda params: SGD(params, lr=0.1, fused=True), precision="16-mixed", accumulate=3
    ),
    "fp16 with a scaler, by hand": Case(module=ways.TwoByHand, precision="16-mixed"),
    "bf16-true": Case(precision="bf16-true", tolerance=2**-8),
    "64-true": Case(precision="64-true", tolerance=1e-9),
    "by hand": Case(lambda params: Adam(params, lr=0.01), module=ways.ByHand),
    "two optimizers by hand": Case(module=ways.TwoByHand),
    "frozen": Case(module=ways.Frozen),
    "unused": Case(lambda params: Adam(params, lr=0.01), module=ways.Unused),
    "tied": Case(module=ways.Tied),
    "embedding": Case(module=ways.Embedded),
    "compiled": Case(module=ways.Compiled),
}
"""Adam divides by the size of the gradient, so it hides a wrong scale; SGD does not."""


def trained_in_a_fit(federation: Federation, case: Case) -> dict[str, Tensor]:
    """Train a round of FedProx, from the model that the control plane holds."""
    federation.register_model(case.make())
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=FedProx(MU), wait_s=30)
    module = case.module(case.optimizer)
    trainer(callback, **case.trainer_arguments).fit(module, ways.data_loader())
    return dict(module.state_dict())


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`:UserWarning")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_round_equals_the_term_in_the_loss(federation: Federation, case: Case) -> None:
    """d/dw [F(w) + mu/2 |w - w_t|^2] = dF/dw + mu (w - w_t), to 1e-6 of every weight.

    The two loops share no code. The term must also matter: without it the weights would lie elsewhere, by
    more than a hundred times the tolerance (ten in bf16, which has three digits).
    """
    expected = trained_by_hand(case, mu=MU)
    without = trained_by_hand(case, mu=0.0)

    ours = trained_in_a_fit(federation, case)

    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=case.tolerance, msg=name)
    effect = max(float((without[name] - value).abs().max()) for name, value in expected.items())
    assert effect > case.tolerance * (10 if case.precision == "bf16-true" else 100)
