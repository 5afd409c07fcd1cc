"""Parts of tests: a federation's rounds, and the plain torch that a reference of them is written with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

from edgeml_lightning import FederatedCallback
from edgeml_lightning.strategies import FederatedStrategy
from tests.lightning.federation import Federation, digits_of, loader, seeded, trainer

LR, MOMENTUM, NUM_DEVICES, NUM_ROUNDS = 0.1, 0.9, 3, 3

Arrays = dict[str, Tensor]


def shards() -> list[TensorDataset]:
    """Return the data of each device; their numbers of samples differ."""
    return [digits_of(device) for device in range(NUM_DEVICES)]


def arrays_of(model: nn.Module, names: Iterable[str] | None = None) -> Arrays:
    state = model.state_dict()
    return {name: state[name].clone() for name in (state if names is None else names)}


def sgd_step_(
    model: nn.Module, memory: Arrays, *, names: Iterable[str] | None = None, weight_decay: float = 0.0
) -> None:
    """Do m <- 0.9 m + g + decay w, then w <- w - 0.1 m, for the named parameters alone."""
    chosen = None if names is None else set(names)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and (chosen is None or name in chosen):
                gradient = parameter.grad + weight_decay * parameter
                memory[name] = MOMENTUM * memory.get(name, torch.tensor(0.0)) + gradient
                parameter.sub_(LR * memory[name])


def backward_(model: nn.Module, batch: Any) -> None:
    model.zero_grad()
    images, labels = batch
    cross_entropy(model(images), labels).backward()


def mean_change(base: Arrays, after: Sequence[Arrays], counts: Sequence[int], names: Iterable[str]) -> Arrays:
    """w^{t+1} = w^t + sum_k n_k (w_k - w^t) / sum_k n_k, for the named arrays; the others stay."""
    result = dict(base)
    for name in names:
        changes = [
            count * (mine[name] - base[name]).double() for count, mine in zip(counts, after, strict=True)
        ]
        result[name] = (base[name].double() + sum(changes) / sum(counts)).float()
    return result


def run_rounds(
    federation: Federation,
    *,
    strategy: FederatedStrategy,
    make: Callable[..., Any],
    num_rounds: int = NUM_ROUNDS,
    sample_count: int | None = None,
    **arguments: Any,
) -> list[FederatedCallback]:
    """Play rounds in which every device trains with a module, a callback and a Trainer made anew each time.

    What is there in the next round was received, or kept on the device's disk. Returns the last callbacks.
    """
    federation.register_model_state(strategy.shared_state(seeded(make)))
    clients = [federation.enrol(f"device-{device}") for device in range(NUM_DEVICES)]
    federation.open_rounds(num_rounds=num_rounds, min_updates=NUM_DEVICES)
    callbacks: list[FederatedCallback] = []
    for _ in range(num_rounds):
        callbacks = []
        for client, shard in zip(clients, shards(), strict=True):
            callbacks.append(
                FederatedCallback(
                    client, model="digits", strategy=strategy, wait_s=30, sample_count=sample_count
                )
            )
            trainer(callbacks[-1], **arguments).fit(seeded(make), loader(shard))
    assert callbacks[0].last_round is not None
    assert callbacks[0].last_round.round_number == num_rounds
    federation.server.wait_for_round(callbacks[0].last_round.round_id, timeout_s=30)
    return callbacks


def assert_same(ours: Arrays, reference: Arrays) -> None:
    """Check that every floating array of the reference is matched to 1e-6."""
    for name, expected in reference.items():
        if expected.is_floating_point():
            torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-6, msg=name)


class PowerCut(L.Callback):
    """Saves after the first epoch, and fails in the second."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("power cut")
        trainer.save_checkpoint(self.path)
