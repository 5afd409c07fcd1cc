"""Ditto: a personal model beside the shared one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from typing_extensions import override

from edgeml_lightning.strategies.arguments import check_strength
from edgeml_lightning.strategies.gradient_term import proximal_term
from edgeml_lightning.strategies.personal_model import PersonalModel
from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["Ditto"]


@dataclass(frozen=True)
class Ditto(FederatedStrategy):
    r"""Train two models: the shared one plainly, and a personal one pulled to the received global model.

    Li et al., 2021, https://arxiv.org/abs/2012.04221, Algorithm 1: the personal model :math:`v_k` minimises
    :math:`F_k(v_k) + \frac{\lambda}{2} \lVert v_k - w^t \rVert^2` and never leaves the device; only the
    shared model's change is sent. ``Ditto(0.0)`` trains a purely local model beside the shared one.

    Args:
        lambda_ditto: The paper's :math:`\lambda`, at least 0; ``None`` takes the round's.
        compiled: Add the term by a kernel that ``torch.compile`` makes in the first step. That takes many
            seconds and a C++ compiler, so it pays in long trainings alone.

    Raises:
        ConfigurationError: ``lambda_ditto`` is negative or not finite.

    Example:
        >>> Ditto(lambda_ditto=0.1).personal_model.module_form
        'DittoModule'
    """

    name: ClassVar[str] = "ditto"
    round_fields: ClassVar[tuple[str, ...]] = ("lambda_ditto",)

    lambda_ditto: float | None = None
    compiled: bool = field(default=False, kw_only=True)

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        check_strength("lambda_ditto", self.lambda_ditto)

    @property
    @override
    def personal_model(self) -> PersonalModel:
        pull = proximal_term(self.lambda_ditto, compiled=self.compiled)
        return PersonalModel(gradient_term=pull, module_form="DittoModule")
