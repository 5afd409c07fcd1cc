"""SCAFFOLD: control variates take the drift of the devices out of their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.functional import next_variate, variate_correction
from edgeml_lightning.strategies.arguments import check_strength
from edgeml_lightning.strategies.companions import Companions
from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["Scaffold"]


@dataclass(frozen=True)
class Scaffold(FederatedStrategy):
    r"""Correct every local gradient by :math:`c - c_i`: by how much the device's differs from that of all.

    Karimireddy et al., 2020, https://arxiv.org/abs/1910.06378, Algorithm 1, Option II. The server's variate
    :math:`c` is a part of the global model's versions: register ``strategy.shared_state(module)``. The
    device's :math:`c_i` stays in its personal store. Both halves of an update, :math:`\Delta y_i` and
    :math:`\Delta c_i`, travel in one file and count together or not at all.

    The control plane weighs devices by their samples, for the variates as for the model, so that
    :math:`c = \sum_i n_i c_i / \sum_i n_i` belongs to the objective that is minimised. With
    ``FederatedCallback(..., sample_count=1)`` everywhere, that is the paper's uniform mean.

    Optimizers must be plain ``torch.optim.SGD``, without momentum: Option II reads the mean gradient from how
    far the parameters moved. Learning rates may differ and change; weight decay belongs to the gradient.

    Args:
        cohort_fraction: The paper's :math:`|S| / N`: which part of all devices trains in a round, in (0, 1];
            ``None`` takes the round's, and 1 if it says nothing.

    Raises:
        ConfigurationError: ``cohort_fraction`` lies outside of (0, 1].

    Example:
        >>> from torch import nn
        >>> sorted(Scaffold().shared_state(nn.Linear(4, 2)))
        ['bias', 'scaffold/bias', 'scaffold/weight', 'weight']
    """

    name: ClassVar[str] = "scaffold"
    optional_round_fields: ClassVar[tuple[str, ...]] = ("cohort_fraction",)

    cohort_fraction: float | None = None

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("cohort_fraction", self.cohort_fraction)
        if self.cohort_fraction is not None and not 0 < self.cohort_fraction <= 1:
            raise ConfigurationError(f"cohort_fraction must lie in (0, 1], not {self.cohort_fraction!r}")

    @property
    @override
    def companions(self) -> Companions:
        share = 1.0 if self.cohort_fraction is None else self.cohort_fraction
        return Companions(correction=variate_correction, next_own=next_variate, share=share)
