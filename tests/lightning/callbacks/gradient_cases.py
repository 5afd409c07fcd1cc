"""Parts of tests: ways to train, each once by a Trainer and once by a loop written out."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from edgeml_lightning.functional import proximal_penalty
from tests.lightning.federation import Batch

NUM_FEATURES, NUM_CLASSES, NUM_EPOCHS, NUM_BATCHES, BATCH_SIZE = 8, 3, 2, 4, 5
DTYPES = {
    "32-true": torch.float32,
    "64-true": torch.float64,
    "bf16-true": torch.bfloat16,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}
SKIPPED = 1
"""The batch for which a module that skips returns no loss."""

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]


class Net(L.LightningModule):
    """Two layers; ``scores`` is what the variants change."""

    skips_a_batch = False

    def __init__(self, make_optimizer: MakeOptimizer) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(NUM_FEATURES, 6), nn.Tanh())
        self.head = nn.Linear(6, NUM_CLASSES)
        self.make_optimizer = make_optimizer

    def scores(self, features: Tensor) -> Tensor:
        return self.head(self.body(features))

    def loss(self, batch: Batch) -> Tensor:
        return cross_entropy(self.scores(batch[0]), batch[1])

    def parts(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each optimizer."""
        return [list(self.parameters())]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        return None if self.skips_a_batch and batch_idx == SKIPPED else self.loss(batch)

    def configure_optimizers(self) -> Any:
        return [self.make_optimizer(part) for part in self.parts()]


class Frozen(Net):
    """One bias is not trained."""

    def __init__(self, make_optimizer: MakeOptimizer) -> None:
        super().__init__(make_optimizer)
        self.body[0].bias.requires_grad_(requires_grad=False)


class Unused(Net):
    """A layer is never called; its gradients stay ``None``."""

    def __init__(self, make_optimizer: MakeOptimizer) -> None:
        super().__init__(make_optimizer)
        self.spare = nn.Linear(3, 3)


class Tied(Net):
    """The way back from the features is the way there, transposed: one parameter under two names."""

    def __init__(self, make_optimizer: MakeOptimizer) -> None:
        super().__init__(make_optimizer)
        self.back = nn.Linear(NUM_FEATURES, 6)
        self.back.weight = self.body[0].weight

    def scores(self, features: Tensor) -> Tensor:
        hidden = self.body(features)
        return self.head(hidden + self.back(hidden @ self.body[0].weight))


class Embedded(Net):
    """Features choose rows of a table, most of which are in no batch."""

    def __init__(self, make_optimizer: MakeOptimizer) -> None:
        super().__init__(make_optimizer)
        self.table = nn.Embedding(50, NUM_FEATURES)

    def scores(self, features: Tensor) -> Tensor:
        return super().scores(self.table((features[:, 0] * 3).long() % 50))


class Compiled(Net):
    """The body is compiled, so that its parameters have other names inside."""

    def __init__(self, make_optimizer: MakeOptimizer) -> None:
        super().__init__(make_optimizer)
        self.body = torch.compile(self.body, backend="aot_eager")  # type: ignore[assignment]


class Skipping(Net):
    """One batch has no loss, so its window is one backward pass short."""

    skips_a_batch = True


class ByHand(Net):
    """Manual optimization."""

    def __init__(self, make_optimizer: MakeOptimizer) -> None:
        super().__init__(make_optimizer)
        self.automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        together = optimizers if isinstance(optimizers, list) else [optimizers]
        for optimizer in together:
            optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        for optimizer in together:
            optimizer.step()


class TwoByHand(ByHand):
    """Manual optimization, body and head with optimizers of their own."""

    def parts(self) -> list[list[nn.Parameter]]:
        return [list(self.body.parameters()), list(self.head.parameters())]


@dataclass(frozen=True)
class Case:
    """One way to train.

    Attributes:
        optimizer: Makes an optimizer from parameters.
        module: What is trained.
        clip: ``norm``, ``value`` or neither.
        accumulate: Batches in a window; 3 leaves one of four for a short last window.
        precision: As Lightning calls it.
        tolerance: Of each weight, absolute.
    """

    optimizer: MakeOptimizer = field(default=lambda params: SGD(params, lr=0.1))
    module: Callable[[MakeOptimizer], Net] = Net
    clip: str = ""
    accumulate: int = 1
    precision: str = "32-true"
    tolerance: float = 1e-6

    @property
    def clip_at(self) -> float:
        """Return a threshold that most steps exceed."""
        return {"norm": 0.1, "value": 0.02}[self.clip]

    @property
    def is_mixed(self) -> bool:
        return self.precision.endswith("mixed")

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Return what makes a Trainer train this way."""
        arguments: dict[str, Any] = {"max_epochs": NUM_EPOCHS, "accumulate_grad_batches": self.accumulate}
        if self.clip:
            arguments |= {"gradient_clip_val": self.clip_at, "gradient_clip_algorithm": self.clip}
        if self.precision == "16-mixed":
            scaler = torch.amp.GradScaler("cpu")
            return arguments | {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)]}
        return arguments | {"precision": self.precision}

    def make(self) -> Net:
        torch.manual_seed(0)
        return self.module(self.optimizer)

    def optimizers_of(self, module: Net) -> list[Optimizer]:
        return [self.optimizer(part) for part in module.parts()]


def data() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(BATCH_SIZE, NUM_FEATURES, generator=generator),
            torch.randint(NUM_CLASSES, (BATCH_SIZE,), generator=generator),
        )
        for _ in range(NUM_BATCHES)
    ]


def data_loader() -> DataLoader[Any]:
    features, labels = (torch.cat(parts) for parts in zip(*data(), strict=True))
    return DataLoader(TensorDataset(features, labels), batch_size=BATCH_SIZE)


def trained_by_hand(case: Case, *, mu: float) -> dict[str, Tensor]:
    """Train a fresh module with the term in its loss; with ``mu`` 0 without it."""
    module = case.make()
    if not case.is_mixed:
        module.to(DTYPES[case.precision])
    anchors = [param.detach().clone() for param in module.parameters()]
    train_by_hand_(module, case, case.optimizers_of(module), anchors=anchors, mu=mu)
    return dict(module.state_dict())


def train_by_hand_(
    module: Net, case: Case, optimizers: list[Optimizer], *, anchors: list[Tensor], mu: float
) -> None:
    """Train in plain torch on F(w) + mu/2 |w - w_t|^2, which autograd gets as it stands.

    A window of N batches sums the gradients of loss/N.
    """
    dtype = DTYPES[case.precision]
    scaler = torch.amp.GradScaler("cpu", enabled=case.precision == "16-mixed")
    pairs = [pair for pair in zip(module.parameters(), anchors, strict=True) if pair[0].requires_grad]
    parameters, anchors = [param for param, _ in pairs], [anchor for _, anchor in pairs]
    batches = [(features if case.is_mixed else features.to(dtype), labels) for features, labels in data()]
    for _, (number, batch) in itertools.product(range(NUM_EPOCHS), enumerate(batches)):
        if number % case.accumulate == 0:
            module.zero_grad()
        if not (module.skips_a_batch and number == SKIPPED):
            with torch.autocast("cpu", dtype) if case.is_mixed else contextlib.nullcontext():
                loss = module.loss(batch)
            term = proximal_penalty(parameters, anchors, mu=mu)
            scaler.scale((loss + term) / case.accumulate).backward()
        if (number + 1) % case.accumulate and number + 1 < len(batches):
            continue
        for optimizer in optimizers:
            if case.clip:
                scaler.unscale_(optimizer)
            if case.clip == "norm":
                nn.utils.clip_grad_norm_(parameters, case.clip_at)
            if case.clip == "value":
                nn.utils.clip_grad_value_(parameters, case.clip_at)
            scaler.step(optimizer)
        scaler.update()
