"""How the loss behind the gradients was scaled when the optimizer is about to step."""

from __future__ import annotations

import lightning as L
from torch.optim import Optimizer

__all__ = ["AccumulationWindow", "loss_factor"]


class AccumulationWindow:
    """Counts the backward passes since gradients were last zeroed.

    Lightning divides each loss by N = ``accumulate_grad_batches``; the last window of an epoch may hold only
    k < N batches. A term that stands in every batch's loss then has the weight k/N in the window.
    """

    def __init__(self) -> None:
        self.num_backwards = 0

    def on_zero_grad(self) -> None:
        """Start a new window."""
        self.num_backwards = 0

    def on_backward(self) -> None:
        """Count one backward pass."""
        self.num_backwards += 1

    def factor(self, accumulate_grad_batches: int) -> float:
        """Return k/N."""
        return self.num_backwards / accumulate_grad_batches


def loss_factor(trainer: L.Trainer, window: AccumulationWindow, optimizer: Optimizer) -> float:
    """Return by how much the gradients are scaled, against those of one batch's loss.

    That is k/N under automatic optimization (under manual optimization the user scales, and 1 is returned),
    times the gradient scaler's scale for optimizers that unscale by themselves (fused ones): Lightning
    unscales the others before it calls its callbacks.
    """
    factor = 1.0
    if trainer.lightning_module.automatic_optimization:
        factor = window.factor(trainer.accumulate_grad_batches)
    scaler = trainer.scaler
    if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
        factor *= scaler.get_scale()
    return factor
