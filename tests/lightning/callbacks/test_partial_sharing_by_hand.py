"""FedRep, FedBN and adapters alone agree with their algorithms written by hand in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from edgeml_client.errors import ConfigurationError, ModelMismatchError
from edgeml_lightning import (
    Ditto,
    FedAvg,
    FedBN,
    FederatedCallback,
    FederatedStrategy,
    FedPer,
    FedPerModule,
    FedRep,
)
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.strategies import Turn
from tests.lightning.by_hand import (
    LR,
    MOMENTUM,
    NUM_DEVICES,
    NUM_ROUNDS,
    Arrays,
    arrays_of,
    assert_same,
    backward_,
    mean_change,
    run_rounds,
    sgd_step_,
    shards,
)
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer

WEIGHT_DECAY, HEAD_EPOCHS, NUM_EPOCHS = 0.01, 1, 3


class Net(DigitsNet):
    """With momentum and weight decay, which would move what rests if its optimizer did not pass over it."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def floating(arrays: Arrays, *, without: str) -> list[str]:
    return [
        name for name, value in arrays.items() if value.is_floating_point() and not name.startswith(without)
    ]


def test_rounds_agree_with_fedrep_by_hand(federation: Federation) -> None:
    """Collins et al., 2021, Algorithm 1: an epoch on the head, two on the body; the body is averaged.

    The head's momentum goes on from round to round, and the body's starts anew, as its optimizer does.
    """
    base = arrays_of(seeded(Net))
    body, head = floating(base, without="classifier."), ["classifier.weight", "classifier.bias"]
    heads = [{name: base[name] for name in head} for _ in range(NUM_DEVICES)]
    memories: list[Arrays] = [{} for _ in heads]
    for _ in range(NUM_ROUNDS):
        after = []
        for shard, own, memory in zip(shards(), heads, memories, strict=True):
            local, body_memory = Net(), dict[str, Tensor]()
            local.load_state_dict(base | own)
            for epoch in range(NUM_EPOCHS):
                for batch in loader(shard):
                    backward_(local, batch)
                    if epoch < HEAD_EPOCHS:
                        sgd_step_(local, memory, names=head, weight_decay=WEIGHT_DECAY)
                    else:
                        sgd_step_(local, body_memory, names=body, weight_decay=WEIGHT_DECAY)
            own.update(arrays_of(local, head))
            after.append(arrays_of(local))
        base = mean_change(base, after, [len(shard) for shard in shards()], body)

    callbacks = run_rounds(
        federation,
        strategy=FedRep(["classifier"], head_epochs=HEAD_EPOCHS),
        make=Net,
        max_epochs=NUM_EPOCHS,
    )

    ours = federation.global_state()
    assert sorted(ours) == sorted(name for name in base if not name.startswith("classifier."))
    assert_same(ours, {name: base[name] for name in body})
    for callback, own in zip(callbacks, heads, strict=True):
        assert_same(arrays_of(callback.personal_module(), head), own)


def test_rounds_agree_with_fedbn_by_hand(federation: Federation) -> None:
    """Li et al., 2021, Algorithm 1: BatchNorm's parameters, statistics and momentum never leave a device."""
    base = arrays_of(seeded(Net))
    shared = floating(base, without="body.1.")
    norm = ["body.1.weight", "body.1.bias", "body.1.running_mean", "body.1.running_var"]
    norms = [{name: base[name] for name in norm} for _ in range(NUM_DEVICES)]
    memories: list[Arrays] = [{} for _ in norms]
    for _ in range(NUM_ROUNDS):
        after = []
        for shard, own, kept in zip(shards(), norms, memories, strict=True):
            local, memory = Net(), dict(kept)
            local.load_state_dict(base | own)
            for batch in loader(shard):
                backward_(local, batch)
                sgd_step_(local, memory, weight_decay=WEIGHT_DECAY)
            kept.update({name: value for name, value in memory.items() if name in norm})
            own.update(arrays_of(local, norm))
            after.append(arrays_of(local))
        base = mean_change(base, after, [len(shard) for shard in shards()], shared)

    callbacks = run_rounds(federation, strategy=FedBN(), make=Net)

    ours = federation.global_state()
    assert sorted(ours) == sorted(shared)
    assert_same(ours, {name: base[name] for name in shared})
    for callback, own in zip(callbacks, norms, strict=True):
        assert_same(arrays_of(callback.personal_module(), norm), own)


class LowRank(nn.Module):
    """Hu et al., 2021, https://arxiv.org/abs/2106.09685, Eq. 3: a frozen layer plus up @ down."""

    def __init__(self, layer: nn.Linear, *, rank: int = 2) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(requires_grad=False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / 8)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) + inputs @ self.down.T @ self.up.T


class Adapted(Net):
    """A frozen body with an adapter in it, and a trained classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.body.requires_grad_(requires_grad=False)
        self.body[0] = LowRank(nn.Linear(64, 16))


ADAPTERS = ["body.0.down", "body.0.up", "classifier.bias", "classifier.weight"]
STATISTICS = ["body.1.running_mean", "body.1.running_var"]


def test_rounds_of_adapters_agree_with_averaging_them_by_hand(federation: Federation) -> None:
    """Only what requires gradients travels; statistics of frozen layers go on from round to round."""
    base = arrays_of(seeded(Adapted))
    statistics = [{name: base[name] for name in STATISTICS} for _ in range(NUM_DEVICES)]
    for _ in range(NUM_ROUNDS):
        after = []
        for shard, own in zip(shards(), statistics, strict=True):
            local, memory = Adapted(), dict[str, Tensor]()
            local.load_state_dict(base | own)
            for batch in loader(shard):
                backward_(local, batch)
                sgd_step_(local, memory, weight_decay=WEIGHT_DECAY)
            own.update(arrays_of(local, STATISTICS))
            after.append(arrays_of(local))
        base = mean_change(base, after, [len(shard) for shard in shards()], ADAPTERS)

    callbacks = run_rounds(federation, strategy=FedAvg(trainable_only=True), make=Adapted)

    ours = federation.global_state()
    assert sorted(ours) == ADAPTERS
    assert_same(ours, {name: base[name] for name in ADAPTERS})
    for callback, own in zip(callbacks, statistics, strict=True):
        assert_same(arrays_of(callback.personal_module(), STATISTICS), own)


def one_round(federation: Federation, module: Any, *, strategy: Any, **arguments: Any) -> FederatedCallback:
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)
    trainer(callback, **arguments).fit(module, loader(digits_of(0)))
    return callback


def test_a_global_model_that_holds_the_frozen_part_gives_it_and_never_gets_it_back(
    federation: Federation,
) -> None:
    """Every device then trains its adapters over the very same frozen arrays."""
    federation.register_model(seeded(Adapted))
    module = seeded(Adapted, seed=5)

    callback = one_round(federation, module, strategy=FedAvg(trainable_only=True))

    frozen = seeded(Adapted).body[0].layer.weight
    assert torch.equal(module.body[0].layer.weight, frozen)
    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    assert torch.equal(federation.global_state()["body.0.layer.weight"], frozen)
    assert callback.last_round.num_bytes_sent < 4 * seeded(Adapted).body[0].layer.weight.numel()


def test_a_frozen_part_of_another_shape_is_refused(federation: Federation) -> None:
    federation.register_model(seeded(Adapted))
    module = seeded(Adapted)
    module.body[0].layer.bias = nn.Parameter(torch.zeros(3), requires_grad=False)

    with pytest.raises(ModelMismatchError, match=r"body.0.layer.bias: \[3\] in the module"):
        one_round(federation, module, strategy=FedAvg(trainable_only=True))


def test_a_personal_model_of_adapters_is_kept_without_the_frozen_part(federation: Federation) -> None:
    strategy = Ditto(0.1, trainable_only=True)
    federation.register_model_state(strategy.shared_state(seeded(Adapted)))

    callback = one_round(federation, seeded(Adapted), strategy=strategy)

    saved = callback.state_dict()["personal"]["arrays"]
    assert "personal/body.0.up" in saved
    assert "personal/body.0.layer.weight" not in saved
    assert torch.equal(
        callback.personal_module().state_dict()["body.0.layer.weight"],
        seeded(Adapted).body[0].layer.weight,
    )


def test_a_round_without_an_epoch_for_the_body_is_refused(federation: Federation) -> None:
    """Its update would be zero."""
    federation.register_model(seeded(Net))

    with pytest.raises(ConfigurationError, match=r"at least 3 epochs a round, and has 2.*max_epochs=3"):
        one_round(federation, seeded(Net), strategy=FedRep(["classifier"], head_epochs=2), max_epochs=2)


def test_a_round_whose_steps_were_over_before_the_body_trained_sends_nothing(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    """The first epoch, four batches, is the head's: four steps leave the body as it was, five do not."""
    federation.register_model(seeded(Net))
    strategy = FedRep(["classifier"], head_epochs=1)

    callback = one_round(federation, seeded(Net), strategy=strategy, max_epochs=-1, max_steps=4)

    assert callback.last_receipt is None
    assert "what is sent rested in every optimizer step, so nothing is uploaded" in caplog.text
    again = FederatedCallback(federation.clients[0], model="digits", strategy=strategy, wait_s=30)
    trainer(again, max_epochs=-1, max_steps=5).fit(seeded(Net), loader(digits_of(0)))
    assert again.last_receipt is not None


def test_a_trial_run_may_be_shorter(federation: Federation) -> None:
    federation.register_model(seeded(Net))

    callback = one_round(
        federation, seeded(Net), strategy=FedRep(["classifier"], head_epochs=2), fast_dev_run=2
    )

    assert callback.last_receipt is None


@dataclass(frozen=True)
class FirstTheBody(FedPer):
    """Lets the head rest in every epoch, and needs no second one."""

    @property
    @override
    def turns(self) -> Sequence[Turn]:
        return (Turn("shared"),)


@pytest.mark.parametrize("strategy", [FedRep(["classifier"], head_epochs=1), FirstTheBody(["classifier"])])
def test_an_optimizer_that_searches_along_a_line_cannot_let_a_part_rest(
    federation: Federation, strategy: FederatedStrategy
) -> None:
    class Searching(DigitsNet):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.LBFGS(self.parameters())

    federation.register_model(seeded())

    with pytest.raises(UnsupportedTrainingError, match=f"{type(strategy).__name__}'s change of the gradient"):
        one_round(federation, seeded(Searching), strategy=strategy, max_epochs=2)


def test_a_module_that_names_its_head_can_be_trained_by_fedrep(federation: Federation) -> None:
    """The head comes from the module, the order of training from the strategy, the epochs from the round."""

    class Headed(FedPerModule, Net):
        head_layers = ("classifier",)

    federation.register_model(seeded(Headed))
    client = federation.enrol("device")
    federation.open_rounds(config={"strategy": "fedrep", "head_epochs": 1})
    module = seeded(Headed)
    body = arrays_of(module.body, ["0.weight"])

    class Watcher(FederatedCallback):
        moved: tuple[bool, ...] = ()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.moved += (not torch.equal(pl_module.body[0].weight, body["0.weight"]),)

    callback = Watcher(client, model="digits", strategy=FedRep(), wait_s=30)
    trainer(callback, max_epochs=2).fit(module, loader(digits_of(0)))

    assert callback.moved == (False, True)
    assert callback.last_round is not None
    assert callback.last_round.strategy == "fedrep"
