"""A training step as everybody writes it, and what the other cases need to vary it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from benchmarks.cases.plain import Call
from benchmarks.networks import NETWORKS, batch_for

__all__ = ["MU", "STEPS_PER_RUN", "Training", "compiles", "run_of", "training"]

MU: Final = 0.1
"""The strength of every proximal term here."""

STEPS_PER_RUN: Final = 4
"""Steps timed together, so that one timer reading does not weigh on one step."""

_LEARNING_RATE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Training:
    """A network in training, and the model it started from.

    Attributes:
        anchors: Copies of its parameters at the start.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    anchors: list[Tensor]
    inputs: Tensor
    labels: Tensor

    def loss(self) -> Tensor:
        """Return the loss on the batch."""
        return nn.functional.cross_entropy(self.network(self.inputs), self.labels)

    def step(self) -> None:
        """Train plainly on the batch."""
        self.step_with()

    def step_with(
        self,
        *,
        term: Callable[[], Tensor] | None = None,
        before_optimizer: Callable[[], object] | None = None,
    ) -> None:
        """Train on the batch with something added.

        Args:
            term: Added to the loss.
            before_optimizer: Called between the backward pass and the optimizer's step.
        """
        self.optimizer.zero_grad()
        loss = self.loss()
        (loss if term is None else loss + term()).backward()
        if before_optimizer is not None:
            before_optimizer()
        self.optimizer.step()

    @torch.no_grad()
    def pass_over_memory(self) -> None:
        """Read every parameter, its anchor and its gradient, and write the gradient: no term can do less.

        One multiply-add of torch's own for each parameter, over the same memory that a term goes through.
        """
        for parameter, anchor in zip(self.network.parameters(), self.anchors, strict=True):
            if parameter.grad is not None:
                parameter.grad.addcmul_(parameter, anchor, value=1e-6)


def training(network: str, batch_size: int, optimizer: str) -> Training:
    """Return a fresh network and everything to train it; the same for the same arguments."""
    torch.manual_seed(0)
    module = NETWORKS[network]()
    inputs, labels = batch_for(network, batch_size)
    rule = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    anchors = [parameter.detach().clone() for parameter in module.parameters()]
    return Training(module, rule(module.parameters(), lr=_LEARNING_RATE), anchors, inputs, labels)


def run_of(step: Callable[[], object]) -> Call:
    """Return a call that makes :data:`STEPS_PER_RUN` steps."""

    def run() -> int:
        for _ in range(STEPS_PER_RUN):
            step()
        return 0

    return run


def compiles(network: str) -> bool:
    """Return whether to measure a compiled kernel: not on the tiny network, whose run is to take seconds."""
    return network != "tiny" and shutil.which("g++") is not None
