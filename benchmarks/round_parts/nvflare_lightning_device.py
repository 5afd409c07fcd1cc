"""A device of NVFlare's simulation with its Lightning client: a patched Trainer, a fit for each round."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import nvflare.client.lightning as flare
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from benchmarks.networks import NETWORKS, batch_for

__all__ = ["Plain"]

_BATCH_SIZE = 2
_LEARNING_RATE = 1e-3


class Plain(pl.LightningModule):
    """A classifier as everybody writes it."""

    def __init__(self, network: str) -> None:
        super().__init__()
        self.network = NETWORKS[network]()

    @override
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, labels = batch
        return nn.functional.cross_entropy(self.network(inputs), labels)

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=_LEARNING_RATE)


class _Marking(pl.Callback):
    """Notes when the batches of each fit begin, on a clock that stands still while they run."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self._begin_s = self._in_batches_s = 0.0

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._begin_s = time.perf_counter()
        self.marks.append(self._begin_s - self._in_batches_s)

    @override
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._in_batches_s += time.perf_counter() - self._begin_s


def main() -> None:
    """Fit once in every round; write when the batches of each began into the file of the first argument."""
    torch.set_num_threads(1)
    path, network = Path(sys.argv[1]), sys.argv[2]
    inputs, labels = batch_for(network, 2 * _BATCH_SIZE)
    data = DataLoader(TensorDataset(inputs, labels), batch_size=_BATCH_SIZE)
    marking = _Marking()
    module = Plain(network)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[marking],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    flare.patch(trainer)
    while flare.is_running():
        trainer.fit(module, data)
        path.write_text(json.dumps(marking.marks), encoding="utf-8")


if __name__ == "__main__":
    main()
