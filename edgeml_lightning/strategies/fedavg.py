"""Federated averaging: every device trains the global model plainly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["FedAvg"]


@dataclass(frozen=True)
class FedAvg(FederatedStrategy):
    """Train plainly, share everything, keep nothing (McMahan et al., 2017, https://arxiv.org/abs/1602.05629).

    Example:
        >>> FedAvg().personal_model is None
        True
    """

    name: ClassVar[str] = "fedavg"
