"""What a federated round costs a fit outside its training: the download, loading, delta, filters and upload.

One device takes part in one round per fit, against an embedded control plane in the same process, so that the
server's share is in the figure too. Timed is everything before a fit's first batch and after its last, for a
Trainer with the callback and for one without. Run as a script it prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final

import lightning as L
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from benchmarks.networks import NETWORKS, batch_for
from benchmarks.trainers import ORG, Plain, enrolled, quiet_trainer
from edgeml_client.schemas import RoundConfig
from edgeml_lightning import FedAvg, FederatedCallback
from edgeml_server import EmbeddedServer

__all__ = ["measure_overhead"]

_BATCH_SIZE: Final = 2
_CODED: Final = ({"type": "sparsification", "top_k": 0.1}, {"type": "quantization", "bits": 4})


class _TrainingTime(L.Callback):
    """Notes when the batches begin and end; last in the list of callbacks."""

    def __init__(self) -> None:
        self.begin_s = self.end_s = 0.0

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.begin_s = time.perf_counter()

    @override
    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.end_s = time.perf_counter()


def measure_overhead(*, network: str, repetitions: int) -> dict[str, list[float]]:
    """Return the seconds outside the batches of every fit, by case; the cases take turns."""
    inputs, labels = batch_for(network, 2 * _BATCH_SIZE)
    data: DataLoader[Any] = DataLoader(TensorDataset(inputs, labels), batch_size=_BATCH_SIZE)

    def seconds_outside(callbacks: list[L.Callback]) -> float:
        training = _TrainingTime()
        module, trainer = Plain(NETWORKS[network]()), quiet_trainer([*callbacks, training])
        start_s = time.perf_counter()
        trainer.fit(module, data)
        return time.perf_counter() - start_s - (training.end_s - training.begin_s)

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        client = enrolled(server, stack.enter_context(tempfile.TemporaryDirectory()), stack)
        server.register_model(org_id=ORG, name="one", state=Plain(NETWORKS[network]()).state_dict())

        def federated(*filters: dict[str, Any]) -> float:
            config = RoundConfig(filters=list(filters))
            server.create_round(org_id=ORG, model="one", num_rounds=1, min_updates=1, config=config)
            return seconds_outside([FederatedCallback(client, model="one", strategy=FedAvg())])

        cases: dict[str, Callable[[], float]] = {
            "Trainer, plain": lambda: seconds_outside([]),
            "FedAvg, whole update": federated,
            "FedAvg, top 10 %, 4 bit": lambda: federated(*_CODED),
        }
        turns = [{name: case() for name, case in cases.items()} for _ in range(repetitions + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in cases}


def main() -> None:
    """Measure; print one line of JSON."""
    given = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    print(json.dumps(measure_overhead(**given)))


if __name__ == "__main__":
    main()
