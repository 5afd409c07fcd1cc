"""FedProx: local training is held near the global model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from edgeml_lightning.strategies.arguments import check_strength
from edgeml_lightning.strategies.gradient_term import GradientTerm, proximal_term
from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["FedProx"]


@dataclass(frozen=True)
class FedProx(FederatedStrategy):
    r"""Add :math:`\frac{\mu}{2} \lVert w - w^t \rVert^2` to the local objective, exactly.

    Li et al., 2020, https://arxiv.org/abs/1812.06127, Eq. 2; :math:`w^t` is the global model the round
    started from. ``FedProx(0.0)`` is ``FedAvg()``.

    Args:
        proximal_mu: The paper's :math:`\mu`, at least 0; ``None`` takes the round's.
        compiled: Add the term by a kernel that ``torch.compile`` makes in the first step. That takes many
            seconds and a C++ compiler, so it pays in long trainings alone.

    Raises:
        ConfigurationError: ``proximal_mu`` is negative or not finite.

    Example:
        >>> FedProx(0.0).gradient_term is None
        True
    """

    name: ClassVar[str] = "fedprox"
    round_fields: ClassVar[tuple[str, ...]] = ("proximal_mu",)

    proximal_mu: float | None = None
    compiled: bool = field(default=False, kw_only=True)

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("proximal_mu", self.proximal_mu)

    @property
    @override
    def gradient_term(self) -> GradientTerm | None:
        return proximal_term(self.proximal_mu, compiled=self.compiled)
