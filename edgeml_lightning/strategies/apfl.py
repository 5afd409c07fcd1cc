"""APFL: a personal model that is mixed from the device's own and the shared one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.strategies.arguments import check_strength
from edgeml_lightning.strategies.personal_model import Mixing, PersonalModel
from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["APFL"]


@dataclass(frozen=True)
class APFL(FederatedStrategy):
    r"""Train the shared model plainly, and beside it the device's own, for the mixture of the two.

    Deng et al., 2020, https://arxiv.org/abs/2003.13461, Algorithm 1: the personal model is
    :math:`\bar v = \alpha v + (1 - \alpha) w`. In every step :math:`w` follows its own gradient,
    :math:`v` follows :math:`\alpha \nabla f(\bar v)`, and only the change of :math:`w` is sent. ``APFL(0.0)``
    uses the shared model as it is; ``APFL(1.0)`` trains a purely local one.

    Args:
        mixing_alpha: The paper's :math:`\alpha`, in [0, 1]; ``None`` takes the round's.
        alpha_rate: With a positive one, :math:`\eta`, the share is adapted in every step by
            :math:`\alpha \leftarrow \alpha - \eta \langle v - w, \nabla f(\bar v) \rangle`, in [0, 1]; the
            paper takes the models' learning rate. It starts from ``mixing_alpha``, and stays on the device.

    Raises:
        ConfigurationError: ``mixing_alpha`` lies outside of [0, 1], or ``alpha_rate`` is negative or not
            finite.

    Example:
        >>> APFL(0.5).personal_model.mixing
        Mixing(alpha=0.5, rate=0.0)
    """

    name: ClassVar[str] = "apfl"
    round_fields: ClassVar[tuple[str, ...]] = ("mixing_alpha",)

    mixing_alpha: float | None = None
    alpha_rate: float = 0.0

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("alpha_rate", self.alpha_rate)
        check_strength("mixing_alpha", self.mixing_alpha)
        if self.mixing_alpha is not None and self.mixing_alpha > 1:
            raise ConfigurationError(f"mixing_alpha must lie in [0, 1], not {self.mixing_alpha!r}")

    @property
    @override
    def personal_model(self) -> PersonalModel:
        return PersonalModel(mixing=Mixing(self.mixing_alpha or 0.0, rate=self.alpha_rate))
