"""Modules that the doctor is shown, each with one thing to find."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

NOT_CALLABLE = 3


def rows(num_features: int = 4) -> DataLoader[tuple[Tensor, ...]]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, num_features, generator=generator)
    return DataLoader(TensorDataset(features, features.sum(1, keepdim=True)), batch_size=4)


class Healthy(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(8, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.body(features))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        features, targets = batch
        loss = nn.functional.mse_loss(self(features), targets)
        self.log("train_loss", loss)
        return loss

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return rows()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class ReturnsDict(Healthy):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "more": 1}


class BuildsLate(Healthy):
    def __init__(self) -> None:
        super().__init__()
        del self.head

    def configure_model(self) -> None:
        if not hasattr(self, "head"):
            self.head = nn.Linear(8, 1)


class WithoutData(Healthy):
    train_dataloader = L.LightningModule.train_dataloader


class Normalized(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))


class Tied(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 8))
        self.body[1].weight = self.body[0].weight


class Lazy(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.LazyLinear(1)


class Empty(L.LightningModule):
    pass


class Frozen(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(requires_grad=False)


class Double(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1, dtype=torch.float64))


class Complex(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("phases", torch.ones(2, dtype=torch.complex64))


class LineSearch(Healthy):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters())


class Unused(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)


class Manual(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(nn.functional.mse_loss(self(batch[0]), batch[1]))
        optimizer.step()


class Interfering(Healthy):
    """Halves its gradients after the backward pass, the term in the loss with them."""

    def on_after_backward(self) -> None:
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad *= 0.5


class NoLoss(Healthy):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return None


class Broken(Healthy):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        raise KeyError("images")


class Uncopyable(Healthy):
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise TypeError("a connection cannot be copied")


class Unpicklable(Healthy):
    def __init__(self) -> None:
        super().__init__()
        self.activation = lambda features: features


class Rows(L.LightningDataModule):
    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return rows()


def needs_a_width(width: int) -> L.LightningModule:
    raise AssertionError(width)


def quits() -> L.LightningModule:
    raise SystemExit(0)


class Chatty(Healthy):
    def __init__(self) -> None:
        super().__init__()
        print("hello")  # noqa: T201 - as modules do


class Quits(Healthy):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        raise SystemExit(0)


class Rarely(Manual):
    """Steps after every second batch, so never within a trial of one."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        if batch_idx % 2:
            super().training_step(batch, batch_idx)


class Diverges(Healthy):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) * float("nan")


class CopiesNothing(Healthy):
    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self
