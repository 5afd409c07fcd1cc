"""SCAFFOLD: control variates take the drift of the devices out of their gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.functional import next_variate
from edgeml_lightning.naming import parameter_names
from edgeml_lightning.strategies.strategy import FederatedStrategy, check_strength

__all__ = ["Scaffold"]

_PREFIX: Final = "scaffold/"


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
        >>> sorted(Scaffold().shared_state(nn.Linear(4, 2)))
        ['bias', 'scaffold/bias', 'scaffold/weight', 'weight']
    """

    name: ClassVar[str] = "scaffold"
    round_fields: ClassVar[tuple[str, ...]] = ("cohort_fraction",)

    cohort_fraction: float | None = None

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("cohort_fraction", self.cohort_fraction)
        if self.cohort_fraction is not None and not 0 < self.cohort_fraction <= 1:
            raise ConfigurationError(f"cohort_fraction must lie in (0, 1], not {self.cohort_fraction!r}")

    @override
    def check_complete(self) -> None:
        """Return: nothing must be given."""

    @property
    @override
    def changes_gradient(self) -> bool:
        return True

    @property
    @override
    def companion_share(self) -> float:
        return 1.0 if self.cohort_fraction is None else self.cohort_fraction

    @override
    def companions(self, module: nn.Module) -> dict[str, Tensor]:
        sent = frozenset(self.split(module).sent)
        return {
            f"{_PREFIX}{name}": torch.zeros(parameter.shape, device=parameter.device)
            for parameter, name in parameter_names(module).items()
            if name in sent and parameter.requires_grad
        }

    @override
    def own_arrays(self, module: nn.Module) -> dict[str, Tensor]:
        return self.companions(module)

    @override
    def corrections(self, received: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name.removeprefix(_PREFIX): received[name] - variate for name, variate in own.items()}

    @override
    def next_own(
        self,
        received: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        *,
        moved: Mapping[str, Tensor],
        step_sizes: Mapping[str, float],
    ) -> dict[str, Tensor]:
        return {
            f"{_PREFIX}{name}": next_variate(
                own[f"{_PREFIX}{name}"],
                received[f"{_PREFIX}{name}"],
                moved=change,
                step_size=step_sizes.get(name, 0.0),
            )
            for name, change in moved.items()
        }
