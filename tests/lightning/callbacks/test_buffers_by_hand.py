"""The three policies for buffers agree with averaging written by hand; counters and variances stay sound."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from edgeml_lightning import FedAvg, FederatedCallback
from tests.lightning.by_hand import (
    NUM_DEVICES,
    NUM_ROUNDS,
    arrays_of,
    assert_same,
    backward_,
    mean_change,
    run_rounds,
    sgd_step_,
    shards,
)
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer

BUFFERS = ["body.1.num_batches_tracked", "body.1.running_mean", "body.1.running_var"]
PARAMETERS = [name for name, _ in DigitsNet().named_parameters()]
STEPS_A_ROUND = [4, 6, 8]
"""40, 60 and 80 samples in batches of 10."""


class Net(DigitsNet):
    def __init__(self) -> None:
        super().__init__(momentum=0.9)


@pytest.mark.parametrize("policy", ["average", "local", "reset"])
def test_rounds_agree_with_a_policy_by_hand(
    federation: Federation, policy: Literal["average", "local", "reset"]
) -> None:
    """``average`` sends statistics, ``local`` keeps them over all rounds, ``reset`` forgets them.

    A counter is never averaged: the global one stays 0, and a device's own counts on only where it is kept.
    """
    base = arrays_of(seeded(Net))
    kept: list[dict[str, Tensor]] = [{} for _ in range(NUM_DEVICES)]
    sent = PARAMETERS + (BUFFERS[1:] if policy == "average" else [])
    for _ in range(NUM_ROUNDS):
        after = []
        for shard, own in zip(shards(), kept, strict=True):
            local, memory = Net(), dict[str, Tensor]()
            local.load_state_dict(base | (own if policy == "local" else {}))
            for batch in loader(shard):
                backward_(local, batch)
                sgd_step_(local, memory)
            own.update(arrays_of(local, BUFFERS))
            after.append(arrays_of(local))
        base = mean_change(base, after, [len(shard) for shard in shards()], sent)

    modules: list[Any] = []

    def make() -> Net:
        modules.append(Net())
        return modules[-1]

    run_rounds(federation, strategy=FedAvg(buffers=policy), make=make)

    ours = federation.global_state()
    assert ("body.1.running_mean" in ours) == (policy != "local")
    assert_same(ours, {name: base[name] for name in base if name in ours})
    for module, own, steps in zip(modules[-NUM_DEVICES:], kept, STEPS_A_ROUND, strict=True):
        assert_same(arrays_of(module, BUFFERS), own)
        assert int(module.body[1].num_batches_tracked) == steps * (NUM_ROUNDS if policy == "local" else 1)
    assert int(ours.get(BUFFERS[0], torch.tensor(0))) == 0


def test_noise_reaches_every_array_but_the_variances(federation: Federation) -> None:
    """A variance below zero would turn the next forward pass into NaN; sigma = 5 would make many so."""
    federation.register_model(seeded(Net))
    client = federation.enrol("device")
    federation.open_rounds(config={"filters": [{"type": "gaussian_noise", "sigma": 5.0}]})
    callback = FederatedCallback(client, model="digits", wait_s=30)
    module = seeded(Net)

    trainer(callback).fit(module, loader(digits_of(0)))

    assert callback.last_round is not None
    federation.server.wait_for_round(callback.last_round.round_id, timeout_s=30)
    ours = federation.global_state()
    torch.testing.assert_close(ours["body.1.running_var"], module.body[1].running_var, rtol=0, atol=1e-6)
    for name in (*PARAMETERS, "body.1.running_mean"):
        assert (ours[name] - module.state_dict()[name]).abs().max() > 1, name
