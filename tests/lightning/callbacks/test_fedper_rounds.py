"""FedPer shares the body; each device keeps its head, the head's buffers and its optimizer state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from edgeml_client.errors import NonFiniteError
from edgeml_lightning import FederatedCallback, FedPer, FedPerModule
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer

LR, MOMENTUM, NUM_DEVICES, NUM_ROUNDS = 0.1, 0.9, 3, 3


class PersonalDigits(FedPerModule, DigitsNet):
    head_layers = ("classifier",)


def is_head(name: str) -> bool:
    return name.startswith("classifier.")


def train_by_hand(state: dict[str, Tensor], head_memory: dict[str, Tensor], data: Any) -> dict[str, Tensor]:
    """One epoch of m <- 0.9 m + g, w <- w - 0.1 m; returns the arrays after it and updates the head's m."""
    local = DigitsNet()
    local.load_state_dict(state)
    memory = dict(head_memory)
    for images, labels in loader(data):
        local.zero_grad()
        cross_entropy(local(images), labels).backward()
        with torch.no_grad():
            for name, parameter in local.named_parameters():
                assert parameter.grad is not None
                memory[name] = MOMENTUM * memory.get(name, torch.tensor(0.0)) + parameter.grad
                parameter.sub_(LR * memory[name])
    head_memory.update({name: value for name, value in memory.items() if is_head(name)})
    return {name: value.clone() for name, value in local.state_dict().items()}


def fedper_by_hand(data: list[Any]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Return the last global model and the devices' heads."""
    base = {name: value.clone() for name, value in seeded().state_dict().items()}
    body = [name for name in base if not is_head(name) and base[name].is_floating_point()]
    heads = [{name: value for name, value in base.items() if is_head(name)} for _ in data]
    memories: list[dict[str, Tensor]] = [{} for _ in data]
    num_samples = sum(len(shard) for shard in data)
    for _ in range(NUM_ROUNDS):
        mean = {name: torch.zeros_like(base[name], dtype=torch.float64) for name in body}
        for shard, head, memory in zip(data, heads, memories, strict=True):
            after = train_by_hand(base | head, memory, shard)
            head.update({name: value for name, value in after.items() if is_head(name)})
            for name in body:
                mean[name] += len(shard) / num_samples * (after[name] - base[name]).double()
        base |= {name: (base[name].double() + mean[name]).float() for name in body}
    return base, heads


def test_rounds_agree_with_fedper_by_hand(federation: Federation) -> None:
    """Arivazhagan et al., 2019: SGD on body and head; the body is averaged, the head never leaves.

    Momentum of the body starts anew each round, as the optimizer does; the head's goes on.
    """
    data = [digits_of(device) for device in range(NUM_DEVICES)]
    base, heads = fedper_by_hand(data)

    federation.register_model(seeded())
    clients = [federation.enrol(f"device-{device}") for device in range(NUM_DEVICES)]
    federation.open_rounds(num_rounds=NUM_ROUNDS, min_updates=NUM_DEVICES)
    modules = {}
    for number in range(NUM_ROUNDS):
        for client, shard in zip(clients, data, strict=True):
            # A module, a callback and a Trainer of its own each round: as if the device had restarted.
            modules[client] = seeded(seed=number, lr=LR, momentum=MOMENTUM)
            callback = FederatedCallback(client, model="digits", strategy=FedPer(["classifier"]), wait_s=30)
            trainer(callback).fit(modules[client], loader(shard))
            assert callback.personal_module() is modules[client]
    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)

    ours = federation.global_state()
    for name, expected in base.items():
        if expected.is_floating_point():
            torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-6, msg=name)
    for module, head in zip(modules.values(), heads, strict=True):
        for name, expected in head.items():
            torch.testing.assert_close(module.state_dict()[name], expected, rtol=0, atol=1e-6, msg=name)


def test_a_module_names_its_own_head(federation: Federation) -> None:
    """Without a strategy, a FedPerModule's round withholds its head."""
    module = seeded(PersonalDigits)
    federation.register_model(module)
    before = federation.enrol("device").pull_global_model("digits").torch_tensors()
    federation.open_rounds()
    callback = FederatedCallback(federation.clients[0], model="digits", wait_s=30)

    trainer(callback).fit(module, loader(digits_of(0)))

    assert callback.last_round is not None
    assert callback.last_round.strategy == "fedper"
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    after = federation.global_state()
    assert torch.equal(after["classifier.weight"], before["classifier.weight"])
    assert not torch.equal(after["body.0.weight"], before["body.0.weight"])
    assert not torch.equal(module.classifier.weight, before["classifier.weight"])
    assert [len(list(part)) for part in (module.head_parameters(), module.body_parameters())] == [2, 4]


def test_a_head_may_have_a_shape_of_its_own(federation: Federation) -> None:
    """Devices with different numbers of classes share one body."""
    federation.register_model(seeded())
    client = federation.enrol("device")
    federation.open_rounds()
    module = seeded()
    module.classifier = torch.nn.Linear(16, 12)
    callback = FederatedCallback(client, model="digits", strategy=FedPer(["classifier"]), wait_s=30)

    trainer(callback).fit(module, loader(digits_of(0)))

    assert callback.last_round is not None
    assert callback.last_round.update_status == "accepted"


def test_body_and_head_are_the_personal_model(federation: Federation) -> None:
    """Its measurements are the module's own, and also stand under ``personal/``."""
    federation.register_model(seeded())
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=FedPer(["classifier"]), wait_s=30)
    fit = trainer(callback)

    fit.fit(seeded(), loader(digits_of(0)), loader(digits_of(0)))

    assert callback.last_round is not None
    assert callback.last_round.personal_metrics == callback.last_round.local_metrics
    assert set(callback.last_round.personal_metrics) == {"train_loss", "val_accuracy", "val_loss"}
    assert fit.callback_metrics["personal/val_loss"] == callback.last_round.local_metrics["val_loss"]


def test_a_first_round_that_fails_leaves_the_head_as_it_was(federation: Federation) -> None:
    """Nobody else has this head: neither the global model nor, before a round ended, the device's store."""

    class Failing(DigitsNet):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("the door was opened")

    strategy, module = FedPer(["classifier"]), seeded(Failing)
    head = module.classifier.weight.detach().clone()
    federation.register_model_state(strategy.shared_state(seeded()))
    callback = FederatedCallback(federation.enrol("device"), model="digits", strategy=strategy, wait_s=30)
    federation.open_rounds()

    with pytest.raises(RuntimeError, match="door"):
        trainer(callback).fit(module, loader(digits_of(0)))

    assert torch.equal(module.classifier.weight, head)


def test_after_diverged_training_a_lower_rate_helps(federation: Federation) -> None:
    """The round that diverged is trained again, and not from the NaN that it left in the device's head."""
    strategy, module = FedPer(["classifier"]), seeded(lr=float("inf"))
    federation.register_model_state(strategy.shared_state(seeded()))
    callback = FederatedCallback(federation.enrol("device"), model="digits", strategy=strategy, wait_s=30)
    federation.open_rounds()
    with pytest.raises(NonFiniteError, match="lower the learning rate"):
        trainer(callback).fit(module, loader(digits_of(0)))
    module.lr = 0.1

    trainer(callback).fit(module, loader(digits_of(0)))

    assert callback.last_round is not None
    assert callback.last_round.update_status == "accepted"
