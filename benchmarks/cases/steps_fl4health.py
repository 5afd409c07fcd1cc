"""FL4Health: its penalty inside the loss, for FedProx and for Ditto's personal model."""

from __future__ import annotations

import torch
from fl4health.losses.weight_drift_loss import WeightDriftLoss

from benchmarks.cases.plain import Cases
from benchmarks.cases.steps_plain import MU, run_of, training

__all__ = ["cases"]


def cases(network: str, batch_size: int, optimizer: str) -> Cases:
    """Return a step of its FedProx client, and one of its Ditto client, which trains two models."""
    plain, drifting, shared, personal = (training(network, batch_size, optimizer) for _ in range(4))
    penalty = WeightDriftLoss(torch.device("cpu"))

    def ditto() -> None:
        # Both losses first, then both steps, as its DittoClient.train_step does.
        shared.optimizer.zero_grad()
        personal.optimizer.zero_grad()
        shared_loss = shared.loss()
        personal_loss = personal.loss() + penalty(personal.network, personal.anchors, MU)
        shared_loss.backward()
        shared.optimizer.step()
        personal_loss.backward()
        personal.optimizer.step()

    return Cases(
        {
            "FL4Health, WeightDriftLoss": run_of(
                lambda: drifting.step_with(term=lambda: penalty(drifting.network, drifting.anchors, MU))
            ),
            "FL4Health, Ditto": run_of(ditto),
        },
        limit=run_of(plain.step),
        num_parameters=sum(anchor.numel() for anchor in plain.anchors),
        is_cold=False,
    )
