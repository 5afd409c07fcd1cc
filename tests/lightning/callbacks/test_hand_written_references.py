"""Federated averaging and Ditto agree with their algorithms written by hand in plain torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from edgeml_lightning import Ditto, FedAvg, FederatedCallback
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer

NUM_DEVICES, NUM_ROUNDS, NUM_EPOCHS = 3, 4, 2
LR, LAMBDA = 0.1, 0.5


def averaged(
    base: dict[str, Tensor], deltas: list[dict[str, Tensor]], counts: list[int]
) -> dict[str, Tensor]:
    """w^{t+1} = w^t + sum_k n_k delta_k / sum_k n_k, for floating arrays; counters stay."""
    result = dict(base)
    for name, value in base.items():
        if value.is_floating_point():
            total = sum(count * delta[name].double() for count, delta in zip(counts, deltas, strict=True))
            result[name] = (value.double() + total / sum(counts)).float()
    return result


def train_plainly(model: nn.Module, data: Any, *, anchor: dict[str, Tensor] | None = None) -> None:
    """SGD over the batches in order; with an anchor the gradient gains lambda * (v - w^t)."""
    model.train()
    for _ in range(NUM_EPOCHS):
        for images, labels in loader(data):
            model.zero_grad()
            cross_entropy(model(images), labels).backward()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    pull = 0.0 if anchor is None else LAMBDA * (parameter - anchor[name])
                    parameter.sub_(LR * (parameter.grad + pull))


def change(model: nn.Module, base: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value - base[name] for name, value in model_arrays(model).items()}


def model_arrays(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_four_rounds_of_federated_averaging(federation: Federation) -> None:
    """McMahan et al., 2017, Algorithm 1, with every device in every round and unequal sample counts."""
    data = [digits_of(device) for device in range(NUM_DEVICES)]
    base = model_arrays(seeded())
    for _ in range(NUM_ROUNDS):
        deltas = []
        for shard in data:
            local = DigitsNet()
            local.load_state_dict(base)
            train_plainly(local, shard)
            deltas.append(change(local, base))
        base = averaged(base, deltas, [len(shard) for shard in data])

    run_federation(federation, data, strategy=FedAvg())

    assert_same(federation.global_state(), base)


def test_four_rounds_of_ditto(federation: Federation) -> None:
    """Li et al., 2021, Algorithm 1: w_k trains plainly and is sent; v_k is pulled to w^t and stays."""
    data = [digits_of(device) for device in range(NUM_DEVICES)]
    base = model_arrays(seeded())
    personal = [seeded() for _ in data]
    for _ in range(NUM_ROUNDS):
        deltas = []
        for shard, own in zip(data, personal, strict=True):
            local = DigitsNet()
            local.load_state_dict(base)
            train_plainly(local, shard)
            train_plainly(own, shard, anchor=base)
            deltas.append(change(local, base))
        base = averaged(base, deltas, [len(shard) for shard in data])

    callbacks = run_federation(federation, data, strategy=Ditto(lambda_ditto=LAMBDA))

    assert_same(federation.global_state(), base)
    for callback, own in zip(callbacks, personal, strict=True):
        assert_same(model_arrays(callback.personal_module()), model_arrays(own))


def run_federation(federation: Federation, data: list[Any], *, strategy: Any) -> list[FederatedCallback]:
    """Four rounds, one device after the other, each with a module, a Trainer and a callback of its own."""
    federation.register_model(seeded())
    clients = [federation.enrol(f"device-{device}") for device in range(NUM_DEVICES)]
    federation.open_rounds(num_rounds=NUM_ROUNDS, min_updates=NUM_DEVICES)
    callbacks = [
        FederatedCallback(client, model="digits", strategy=strategy, wait_s=30) for client in clients
    ]
    modules = [seeded(seed=7 + device, lr=LR) for device in range(NUM_DEVICES)]
    for number in range(1, NUM_ROUNDS + 1):
        for callback, module, shard in zip(callbacks, modules, data, strict=True):
            trainer(callback, max_epochs=NUM_EPOCHS).fit(module, loader(shard))
            assert callback.last_round is not None
            assert callback.last_round.round_number == number
    assert callbacks[0].last_round is not None
    federation.server.wait_for_round(callbacks[0].last_round.round_id, timeout_s=30)
    return callbacks


def assert_same(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> None:
    for name, expected in reference.items():
        if expected.is_floating_point():
            torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-6, msg=name)
