"""What becomes of a round when something does not go as planned, and of many rounds in a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from typing_extensions import override

from edgeml_lightning import Ditto, FedAvg, FederatedCallback, FederatedTrainer, FedProx
from tests.lightning.distributed.ranks_scenarios import raised
from tests.lightning.distributed.scenarios import Given, Kind, Net, Seat, connection, loader, samples, trainer


class FailsInOneProcess(Net):
    """When nothing is left to compute together, so that no other process notices by itself."""

    @override
    def on_train_end(self) -> None:
        if self.global_rank == 1:
            raise LookupError("the disk of process 1 is full")


class StopsInTheSecondEpoch(Net):
    @override
    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            raise LookupError("the power went")


def lose_one_in_the_end(rank: int, seat: Seat) -> tuple[str, str, float]:
    callback = FederatedCallback(connection(rank, seat), model="fedavg", strategy=FedAvg())
    return raised(lambda: trainer("ddp", callback).fit(FailsInOneProcess(), loader("ddp")))


def ddp_life(rank: int, seat: Seat) -> dict[str, Any]:
    """Two rounds with one Trainer; a model of which there are none; data that does not divide by two."""
    given = connection(rank, seat)
    federated = FederatedTrainer(given, model="two rounds", trainer=trainer("ddp"))
    history = federated.fit(Net(), train_dataloaders=loader("ddp"), rounds=5)
    nobody = FederatedCallback(given, model="fedper", strategy=FedAvg(), wait_s=0)
    uneven = FederatedCallback(given, model="fedavg", strategy=FedAvg())
    return {
        "history": list(history),
        "end": history.end_reason,
        "nobody": raised(lambda: trainer("ddp", nobody).fit(Net(), loader("ddp"))),
        "uneven": raised(lambda: trainer("ddp", uneven).fit(Net(), loader("ddp", samples(15)))),
        "uneven record": uneven.last_round,
    }


def fsdp2_life(rank: int, seat: Seat, folder: Path) -> dict[str, Any]:
    """A second model beside sharded parameters; a round that goes on from a checkpoint."""
    given = connection(rank, seat)
    twin = FederatedCallback(given, model="fedavg", strategy=Ditto(0.5))
    refused = raised(lambda: trainer("fsdp2", twin).fit(Net(), loader("fsdp2")))
    stopped = raised(lambda: fit_two_epochs("fsdp2", given, StopsInTheSecondEpoch(), folder=folder))
    going_on = fit_two_epochs("fsdp2", given, Net(), folder=folder, ckpt_path=folder / "epoch=0.ckpt")
    return {"ditto": refused, "stopped": stopped, "record": going_on.last_round}


def fit_two_epochs(
    kind: Kind, given: Given, module: L.LightningModule, *, folder: Path | None = None, **options: Any
) -> FederatedCallback:
    """Fit two epochs, with a checkpoint after each if there is a folder for it."""
    callback = FederatedCallback(given, model="fedprox", strategy=FedProx(0.5))
    callbacks: list[L.Callback] = [callback]
    if folder is not None:
        callbacks.append(
            ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
        )
    running = trainer(kind, *callbacks, enable_checkpointing=folder is not None)
    data: DataLoader[Any] = loader(kind)
    running.fit(module, data, **options)
    return callback
