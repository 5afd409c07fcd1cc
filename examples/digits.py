"""The examples' data and module: scikit-learn's handwritten digits on devices that see few labels each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning as L
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy
from typing_extensions import override

from edgeml_lightning.label_shards import label_shards, split_fractions

if TYPE_CHECKING:
    from collections.abc import Container

    from numpy.typing import NDArray

__all__ = ["DigitsData", "DigitsNet", "digits_of_devices"]

NUM_CLASSES = 10


class DigitsNet(L.LightningModule):
    """Two small convolutions and a classifier for images of 8 x 8 pixels; about 10,000 parameters.

    Args:
        learning_rate: Of plain SGD.
    """

    def __init__(self, learning_rate: float = 0.2) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(32 * 4 * 4, NUM_CLASSES)
        self.val_acc = MulticlassAccuracy(num_classes=NUM_CLASSES, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes=NUM_CLASSES, average="micro")

    @override
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, of shape ``(batch, 10)``, of images of shape ``(batch, 1, 8, 8)``."""
        logits: torch.Tensor = self.classifier(self.body(images))
        return logits

    @override
    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    @override
    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        images, labels = batch
        logits = self(images)
        self.val_acc(logits, labels)
        self.log("val_loss", nn.functional.cross_entropy(logits, labels))
        self.log("val_acc", self.val_acc)

    @override
    def test_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        images, labels = batch
        logits = self(images)
        self.test_acc(logits, labels)
        self.log("test_loss", nn.functional.cross_entropy(logits, labels))
        self.log("test_acc", self.test_acc)

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate)


class DigitsData(L.LightningDataModule):
    """One device's digits: 60 % to train on, 20 % to validate, 20 % to test.

    Args:
        images: Of shape ``(samples, 8, 8)``, values in [-1, 1].
        labels: Of shape ``(samples,)``.
        batch_size: Samples a step.
        seed: Decides which samples are held out.
    """

    def __init__(
        self, images: NDArray[np.float32], labels: NDArray[np.int64], *, batch_size: int = 32, seed: int = 0
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.labels = tuple(int(label) for label in np.unique(labels))
        parts = split_fractions(
            np.arange(len(labels)), fractions=(0.6, 0.2, 0.2), rng=np.random.default_rng(seed)
        )
        self._train, self._val, self._test = (
            TensorDataset(torch.from_numpy(images[part]).unsqueeze(1), torch.from_numpy(labels[part]))
            for part in parts
        )

    @override
    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self._train, batch_size=self.batch_size, shuffle=True)

    @override
    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self._val, batch_size=len(self._val))

    @override
    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return DataLoader(self._test, batch_size=len(self._test))


def digits_of_devices(
    num_devices: int,
    *,
    seed: int,
    shards_per_device: int = 2,
    batch_size: int = 32,
    random_labels_on: Container[int] = (),
) -> list[DigitsData]:
    """Return one data module a device; no two share a sample, and each sees few of the ten digits.

    Args:
        num_devices: At least 1.
        seed: Decides who owns what, and the random labels.
        shards_per_device: The fewer, the fewer digits a device sees.
        batch_size: Samples a step.
        random_labels_on: Numbers of devices whose labels are drawn at random from all ten.
    """
    digits = load_digits()
    images = (digits.images / 8 - 1).astype(np.float32)
    labels = digits.target.astype(np.int64)
    rng = np.random.default_rng(seed + 1)
    parts = label_shards(
        labels,
        num_devices=num_devices,
        shards_per_device=shards_per_device,
        rng=np.random.default_rng(seed),
    )
    for number, part in enumerate(parts):
        if number in random_labels_on:
            labels[part] = rng.integers(NUM_CLASSES, size=len(part))
    return [DigitsData(images[part], labels[part], batch_size=batch_size, seed=seed) for part in parts]
