"""What a test's processes do: rounds of one device, alone or as two processes that train together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies import Strategy as LightningStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils.data import DataLoader, TensorDataset

from edgeml_client import FederatedClient
from edgeml_lightning import (
    APFL,
    Ditto,
    DittoModule,
    FedAvg,
    FedBN,
    FederatedCallback,
    FederatedStrategy,
    FedPer,
    FedProx,
    FedRep,
    RoundRecord,
    Scaffold,
    model_state,
)
from edgeml_lightning.distributed.sharding import whole_tensor
from edgeml_lightning.simulated_device import connected_client

Kind = Literal["alone", "ddp", "fsdp2"]
Given = FederatedClient | Callable[[], FederatedClient]
Batch = tuple[Tensor, Tensor]
State = dict[str, npt.NDArray[Any]]

GLOBAL_BATCH = 16
"""All the data, in whatever order a sampler puts it: alone in one batch, two processes eight each."""


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.ModuleDict({"body": nn.Sequential(nn.Linear(6, 8), nn.Tanh()), "head": nn.Linear(8, 3)})


def loss_of(parts: Any, batch: Batch) -> Tensor:
    features, targets = batch
    return nn.functional.mse_loss(parts["head"](parts["body"](features)), targets)


class Net(L.LightningModule):
    """Small, and without what depends on which samples share a batch."""

    def __init__(self, *, compiled: bool = False, momentum: float = 0.9) -> None:
        super().__init__()
        self.parts = network()
        if compiled:
            self.parts["body"] = torch.compile(self.parts["body"], backend="eager")
        self.momentum = momentum

    def configure_model(self) -> None:
        """Shard what is not yet sharded: every fit calls it again."""
        for part in self.parts.values() if self._device_mesh is not None else ():
            if not isinstance(part, FSDPModule):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = loss_of(self.parts, batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", loss_of(self.parts, batch), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=self.momentum)


class NormedNet(Net):
    """With a normalization layer that looks at one sample at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.parts["body"].append(nn.LayerNorm(8))


class TwinNet(DittoModule):
    """The same network as a module to subclass."""

    def __init__(self) -> None:
        super().__init__(network(), lambda_ditto=0.5)

    def configure_model(self) -> None:
        if self._device_mesh is not None:
            for twin in (self.model, self.personal_model):
                for part in twin.values():
                    fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def training_step_of(self, model: nn.Module, batch: Batch, batch_idx: int) -> Tensor:
        return loss_of(model, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


@dataclass(frozen=True)
class Case:
    """One way to train, over as many rounds as it takes to see what is kept between them."""

    strategy: FederatedStrategy | None
    make: Callable[[], L.LightningModule] = Net
    num_rounds: int = 1
    is_personal: bool = True
    is_measured: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "fedavg": Case(FedAvg()),
    "fedprox": Case(FedProx(0.5)),
    "fedprox in bf16": Case(FedProx(0.5), arguments={"precision": "bf16-mixed"}),
    "ditto": Case(Ditto(0.5), num_rounds=2, arguments={"gradient_clip_val": 0.5}),
    "apfl": Case(APFL(0.5, alpha_rate=0.1), num_rounds=2),
    "fedrep": Case(FedRep(["parts.head"], head_epochs=1), num_rounds=2),
    "fedbn": Case(FedBN(), NormedNet, num_rounds=2),
    "scaffold": Case(Scaffold(), lambda: Net(momentum=0.0), num_rounds=2, is_personal=False),
    "ditto module": Case(None, TwinNet, num_rounds=2, arguments={"gradient_clip_val": 0.5}),
    "fedper": Case(FedPer(["parts.head"]), num_rounds=2),
    "fedper with validation": Case(
        FedPer(["parts.head"]), num_rounds=2, is_measured=True, arguments={"num_sanity_val_steps": -1}
    ),
    "two rounds": Case(FedAvg(), num_rounds=2, is_personal=False),
    "compiled": Case(FedAvg(), lambda: Net(compiled=True)),
}


@dataclass(frozen=True)
class Seat:
    """What a device needs to take its place in an organization: sent to each process, used by the first."""

    url: str
    org_id: str
    bootstrap_token: str
    folder: Path
    device: str = "device"

    def client(self) -> FederatedClient:
        return connected_client(
            self.device,
            url=self.url,
            org_id=self.org_id,
            bootstrap_token=self.bootstrap_token,
            folder=self.folder,
        )


@dataclass(frozen=True)
class Played:
    """What one process holds after the rounds of a case."""

    records: list[RoundRecord]
    personal: State


def samples(num_samples: int = GLOBAL_BATCH) -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    return TensorDataset(
        torch.randn(num_samples, 6, generator=generator), torch.randn(num_samples, 3, generator=generator)
    )


def trainer(kind: Kind, *callbacks: L.Callback, **arguments: Any) -> L.Trainer:
    quiet: dict[str, Any] = {
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "accelerator": "cpu",
        "devices": 1 if kind == "alone" else 2,
        "strategy": _strategy(kind),
    }
    return L.Trainer(callbacks=list(callbacks), **{**quiet, **arguments})


def loader(kind: Kind, data: TensorDataset | None = None) -> DataLoader[Batch]:
    return DataLoader(data or samples(), batch_size=GLOBAL_BATCH if kind == "alone" else GLOBAL_BATCH // 2)


def play_all(rank: int, seat: Seat, kind: Kind, names: list[str]) -> dict[str, Played]:
    """Play the rounds of several cases, one after the other, as one device."""
    given = connection(rank, seat)
    return {name: play(given, kind, name) for name in names}


def connection(rank: int, seat: Seat) -> Given:
    """Return the device's client in the first process; in others what fails when it is used."""
    return seat.client() if rank == 0 else only_the_first_may_ask


def only_the_first_may_ask() -> FederatedClient:
    raise AssertionError("only the first process may ask for the client")


def play(given: Given, kind: Kind, name: str) -> Played:
    """Play the rounds of a case; a new program would do the same in each, so all is made anew."""
    case, records, personal = CASES[name], [], {}
    for _ in range(case.num_rounds):
        callback = FederatedCallback(given, model=name, strategy=case.strategy)
        module = case.make()
        trainer(kind, callback, **case.arguments).fit(
            module, loader(kind), loader(kind) if case.is_measured else None
        )
        assert callback.last_round is not None
        records.append(callback.last_round)
        if case.num_rounds > 1 and case.is_personal:
            personal = whole_state(callback.personal_module())
    return Played(records, personal)


def furthest(one: State, other: State) -> float:
    """Return the largest difference between two models of the same arrays."""
    assert set(one) == set(other)
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def whole_state(module: nn.Module) -> State:
    """Return copies of all arrays, put together from their shards, as what travels well."""
    return {name: whole_tensor(array).detach().numpy().copy() for name, array in model_state(module).items()}


def _strategy(kind: Kind) -> LightningStrategy | str:
    if kind == "fsdp2":
        return ModelParallelStrategy(
            data_parallel_size=2, tensor_parallel_size=1, process_group_backend="gloo"
        )
    return DDPStrategy(process_group_backend="gloo") if kind == "ddp" else "auto"
