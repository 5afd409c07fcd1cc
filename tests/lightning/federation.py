"""Parts of tests: a small federation on handwritten digits through the real control plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_client.schemas import RoundStatus
from edgeml_lightning import model_state
from edgeml_server import EmbeddedServer

Batch = tuple[Tensor, Tensor]


class Federation:
    """One organization on a control plane, with one model and devices that have tokens of their own."""

    def __init__(self, server: EmbeddedServer, folder: Path, *, org_id: str) -> None:
        self.server = server
        self.folder = folder
        self.org_id = org_id
        self.clients: list[FederatedClient] = []

    def register_model(self, module: nn.Module, *, name: str = "digits") -> None:
        self.register_model_state(model_state(module), name=name)

    def register_model_state(self, state: dict[str, Tensor], *, name: str = "digits") -> None:
        self.server.register_model(org_id=self.org_id, name=name, state=state)

    def enrol_only(self, device: str) -> DeviceAuthClient:
        """Return what holds the token of a new device."""
        auth = DeviceAuthClient(
            base_url=self.server.url,
            org_id=self.org_id,
            device_identifier=device,
            token_storage="memory",
        )
        auth.bootstrap_sync(
            bootstrap_bearer_token=self.server.create_bootstrap_token(
                org_id=self.org_id, device_identifier=device
            )
        )
        return auth

    def enrol(self, device: str, **arguments: Any) -> FederatedClient:
        """Return a connected client; the device is known to the control plane."""
        auth = self.enrol_only(device)
        client = FederatedClient(
            auth_token_provider=auth.get_access_token_sync,
            org_id=self.org_id,
            api_base=self.server.api_base,
            device_identifier=device,
            state_dir=self.folder / device,
            **arguments,
        )
        client.register()
        self.clients.append(client)
        return client

    def open_rounds(self, **arguments: Any) -> RoundStatus:
        return self.server.create_round(org_id=self.org_id, model="digits", **arguments)

    def global_state(self) -> dict[str, Tensor]:
        """Return the newest version of the model."""
        return self.clients[0].pull_global_model("digits").torch_tensors()

    def close(self) -> None:
        for client in self.clients:
            client.close()


class DigitsNet(L.LightningModule):
    """A small network with everything that is awkward to share: normalization, counters, metrics, dropout."""

    def __init__(self, *, lr: float = 0.1, momentum: float = 0.0, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout))
        self.classifier = nn.Linear(16, 10)
        self.accuracy = MulticlassAccuracy(10, average="micro")
        self.lr, self.momentum = lr, momentum

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.body(images))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = cross_entropy(self(images), labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        scores = self(images)
        self.accuracy(scores, labels)
        self.log("val_accuracy", self.accuracy)
        self.log("val_loss", cross_entropy(scores, labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


def seeded(make: Any = DigitsNet, *, seed: int = 0, **arguments: Any) -> Any:
    """Return a module whose initial parameters depend on ``seed`` alone."""
    torch.manual_seed(seed)
    return make(**arguments)


def digits_of(device: int, *, num_devices: int = 3, num_samples: int | None = None) -> TensorDataset:
    """Return the part of the digits that belongs to one device: every label, unequal numbers of samples."""
    images, labels = load_digits(return_X_y=True)
    mine = np.arange(device, len(labels), num_devices)[: num_samples or 40 + 20 * device]
    return TensorDataset(
        torch.tensor(images[mine] / 16, dtype=torch.float32), torch.tensor(labels[mine], dtype=torch.int64)
    )


def loader(data: TensorDataset, *, batch_size: int = 10, shuffle: bool = False) -> DataLoader[Batch]:
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle)


def trainer(*callbacks: L.Callback, **arguments: Any) -> L.Trainer:
    """Return a quiet Trainer of one epoch."""
    quiet: dict[str, Any] = {
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "accelerator": "cpu",
    }
    return L.Trainer(callbacks=list(callbacks), **{**quiet, **arguments})
