"""What a type checker must know about a strategy of a third party; never run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, assert_type

from torch import Tensor, nn
from typing_extensions import override

from edgeml_lightning import FederatedStrategy
from edgeml_lightning.functional import add_proximal_gradient_
from edgeml_lightning.strategies import (
    Companions,
    GradientTerm,
    Mixing,
    PersonalModel,
    Turn,
    proximal_term,
)


def add_nothing_(
    parameters: Sequence[Tensor], anchors: Sequence[Tensor], *, strength: float, factor: float
) -> None: ...


@dataclass(frozen=True)
class Everything(FederatedStrategy):
    name: ClassVar[str] = "everything"

    mu: float = 1.0

    @override
    def private_layers(self, module: nn.Module) -> Sequence[str]:
        return ["head"]

    @property
    @override
    def gradient_term(self) -> GradientTerm | None:
        return partial(add_nothing_, strength=self.mu) if self.mu else proximal_term(self.mu)

    @property
    @override
    def turns(self) -> Sequence[Turn]:
        return Turn("kept", 2), Turn("shared")

    @property
    @override
    def personal_model(self) -> PersonalModel:
        pull = partial(add_proximal_gradient_, mu=self.mu)
        return PersonalModel(gradient_term=pull, mixing=Mixing(0.5))

    @property
    @override
    def companions(self) -> Companions:
        return Companions(correction=lambda own, received: received - own, next_own=self.next_own, share=0.5)

    def next_own(self, own: Tensor, received: Tensor, *, moved: Tensor, step_size: float) -> Tensor:
        return own - received - moved / step_size


def made() -> None:
    strategy = Everything(0.5, buffers="local")
    assert_type(strategy, Everything)
    assert_type(strategy.mu, float)
    Everything(reach=1.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue] - it has no such field
    assert_type(strategy.second_model, PersonalModel | None)
    Turn("head")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - it is no part of a model
