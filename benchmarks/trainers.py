"""Whole Trainer steps: what the callback and the modules add to Lightning's own loop.

One device takes part in one round per fit, against an embedded control plane in the same process. Timed are
the batches of a fit from the fourth to the last, from start to start, so that neither the download before nor
the upload after counts. Run as a script it prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from benchmarks.cases.steps_plain import MU, compiles
from benchmarks.networks import NETWORKS, batch_for
from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_lightning import Ditto, DittoModule, FedAvg, FederatedCallback, FedProx
from edgeml_server import EmbeddedServer

__all__ = ["ORG", "Plain", "enrolled", "measure_trainers", "quiet_trainer"]

_LEARNING_RATE: Final = 1e-3
_UNTIMED_BATCHES: Final = 3
ORG: Final = "bench"

Batch = tuple[Tensor, Tensor]


class Plain(L.LightningModule):
    """A classifier as everybody writes it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        inputs, labels = batch
        return nn.functional.cross_entropy(self.network(inputs), labels)

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=_LEARNING_RATE)


class _TwoModels(DittoModule):
    """The same, to be trained twice at once."""

    @override
    def training_step_of(self, model: nn.Module, batch: Batch, batch_idx: int) -> Tensor:
        inputs, labels = batch
        return nn.functional.cross_entropy(model(inputs), labels)

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=_LEARNING_RATE)


class _Stopwatch(L.Callback):
    """Notes when each batch starts; last in the list of callbacks, so that the others have run."""

    def __init__(self) -> None:
        self.starts: list[float] = []

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: object, batch_idx: int
    ) -> None:
        self.starts.append(time.perf_counter())

    def seconds_per_batch(self) -> float:
        """Return the mean over the batches that count."""
        counted = self.starts[_UNTIMED_BATCHES:]
        return (counted[-1] - counted[0]) / (len(counted) - 1)


def _fit(module: L.LightningModule, data: DataLoader[Any], callbacks: list[L.Callback]) -> float:
    stopwatch = _Stopwatch()
    quiet_trainer([*callbacks, stopwatch]).fit(module, data)
    return stopwatch.seconds_per_batch()


def quiet_trainer(callbacks: list[L.Callback]) -> L.Trainer:
    """Return a Trainer of one epoch that writes and prints nothing."""
    return L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def enrolled(server: EmbeddedServer, folder: str, stack: contextlib.ExitStack) -> FederatedClient:
    """Return a registered client, which the stack closes."""
    auth = DeviceAuthClient(
        base_url=server.url,
        org_id=ORG,
        device_identifier="device",
        token_storage="memory",  # noqa: S106 - the kind of store
    )
    auth.bootstrap_sync(bootstrap_bearer_token=server.create_bootstrap_token(org_id=ORG))
    client = stack.enter_context(
        FederatedClient(
            auth_token_provider=auth.get_access_token_sync,
            org_id=ORG,
            api_base=server.api_base,
            device_identifier="device",
            state_dir=Path(folder),
        )
    )
    client.register()
    return client


def measure_trainers(
    *, network: str, batch_size: int, num_batches: int, repetitions: int
) -> dict[str, list[float]]:
    """Return the seconds per batch of every fit, by case; the cases take turns."""
    inputs, labels = batch_for(network, batch_size * num_batches)
    data: DataLoader[Any] = DataLoader(TensorDataset(inputs, labels), batch_size=batch_size)

    def plain() -> Plain:
        return Plain(NETWORKS[network]())

    def two_models() -> _TwoModels:
        return _TwoModels(NETWORKS[network](), lambda_ditto=MU)

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        client = enrolled(server, stack.enter_context(tempfile.TemporaryDirectory()), stack)
        server.register_model(org_id=ORG, name="one", state=plain().state_dict())
        shared_half = {
            name: value for name, value in two_models().state_dict().items() if name.startswith("model.")
        }
        server.register_model(org_id=ORG, name="two", state=shared_half)

        def federated(strategy: object, *, model: str, module: Callable[[], L.LightningModule]) -> float:
            server.create_round(org_id=ORG, model=model, num_rounds=1, min_updates=1)
            callback = FederatedCallback(client, model=model, strategy=strategy)
            return _fit(module(), data, [callback])

        cases: dict[str, Callable[[], float]] = {
            "Trainer, plain": lambda: _fit(plain(), data, []),
            "Trainer, FedAvg": lambda: federated(FedAvg(), model="one", module=plain),
            "Trainer, FedProx": lambda: federated(FedProx(MU), model="one", module=plain),
            "Trainer, Ditto on an untouched module": lambda: federated(
                Ditto(lambda_ditto=MU), model="one", module=plain
            ),
            "Trainer, DittoModule": lambda: federated(None, model="two", module=two_models),
        }
        if compiles(network):
            cases["Trainer, FedProx, compiled"] = lambda: federated(
                FedProx(MU, compiled=True), model="one", module=plain
            )
            cases["Trainer, Ditto on an untouched module, compiled"] = lambda: federated(
                Ditto(lambda_ditto=MU, compiled=True), model="one", module=plain
            )
        turns = [{name: case() for name, case in cases.items()} for _ in range(repetitions)]
    return {name: [turn[name] for turn in turns] for name in cases}


def main() -> None:
    """Measure; print one line of JSON."""
    given = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    print(json.dumps(measure_trainers(**given)))


if __name__ == "__main__":
    main()
