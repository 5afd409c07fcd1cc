"""A control plane, an organization of its own for each test, and devices that are enrolled in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from edgeml_client import FederatedClient
from edgeml_client.schemas import RoundStatus
from edgeml_lightning.seeding import seeded
from edgeml_lightning.simulated_device import connected_client
from edgeml_server import EmbeddedServer


class Line(L.LightningModule):
    """Fits a line; small enough that a round takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def _loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(self.layer(inputs), targets)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss)
        return loss

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Points(L.LightningDataModule):
    """Twelve points of a noisy plane, three batches of four."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with seeded(seed):
            inputs = torch.randn(12, 2)
            targets = inputs @ torch.tensor([[1.0], [-2.0]]) + 0.1 * torch.randn(12, 1)
        self.points = TensorDataset(inputs, targets)

    @override
    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.points, batch_size=4, shuffle=True)

    @override
    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.points, batch_size=12)


class Clinic:
    """One organization of the control plane, from the operator's side and the devices'."""

    def __init__(self, plane: EmbeddedServer, folder: Path, stack: ExitStack) -> None:
        self.plane = plane
        self.org_id = f"clinic-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._stack = stack

    def device(self, name: str = "mri-3") -> FederatedClient:
        """Return the client of a newly enrolled device."""
        client = connected_client(
            name,
            url=self.plane.url,
            org_id=self.org_id,
            bootstrap_token=self.plane.create_bootstrap_token(org_id=self.org_id),
            folder=self._folder / name,
        )
        self._stack.callback(client.close)
        return client

    def open_rounds(self, **request: Any) -> RoundStatus:
        """Register the model ``line`` and open rounds of it."""
        with seeded(0):
            state = Line().state_dict()
        self.plane.register_model(org_id=self.org_id, name="line", state=state)
        return self.plane.create_round(org_id=self.org_id, model="line", **request)


@pytest.fixture(scope="session")
def plane() -> Iterator[EmbeddedServer]:
    """Run one control plane for all tests of this folder."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def clinic_of(tmp_path: Path) -> Iterator[Callable[[EmbeddedServer], Clinic]]:
    """Make organizations on any control plane; their devices are closed after the test."""
    with ExitStack() as stack:
        yield lambda plane: Clinic(plane, tmp_path, stack)


@pytest.fixture
def clinic(plane: EmbeddedServer, clinic_of: Callable[[EmbeddedServer], Clinic]) -> Clinic:
    return clinic_of(plane)


@pytest.fixture
def line_class() -> type[Line]:
    return Line


@pytest.fixture
def points_class() -> type[Points]:
    return Points


@pytest.fixture
def line() -> Line:
    with seeded(1):
        return Line()


@pytest.fixture
def points() -> Points:
    return Points()


@pytest.fixture
def quiet() -> Callable[..., L.Trainer]:
    """Make trainers that leave no trace."""

    def make(**options: Any) -> L.Trainer:
        defaults: dict[str, Any] = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        return L.Trainer(**(defaults | options))

    return make
