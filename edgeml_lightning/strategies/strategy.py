"""What a round does to training on the device."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Self

from torch import Tensor, nn

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import RoundConfig
from edgeml_lightning.partition import BufferPolicy, Partition, partition

__all__ = ["FederatedStrategy"]


@dataclass(frozen=True)
class FederatedStrategy:
    """Answers three questions: what is shared, what is added to the gradient, what the device keeps.

    A strategy is an immutable description; it holds no state of a round. Subclass it as a frozen dataclass,
    override what differs from federated averaging, and hand an instance to ``FederatedCallback``.

    Args:
        buffers: What becomes of floating buffers such as BatchNorm's statistics: ``average``, ``local``
            (they stay on the device) or ``reset`` (every round starts from the global model's).
    """

    name: ClassVar[str] = ""
    """What a round's configuration calls this strategy."""

    round_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that a round's configuration may fill, under the same name, when the user left them open."""

    buffers: BufferPolicy = field(default="average", kw_only=True)

    def __post_init__(self) -> None:
        if self.buffers not in {"average", "local", "reset"}:
            raise ConfigurationError(f'buffers must be "average", "local" or "reset", not {self.buffers!r}')

    @property
    def label(self) -> str:
        """What this strategy is called in records and in the personal store."""
        return self.name or type(self).__name__.lower()

    # What is shared.

    def split(self, module: nn.Module) -> Partition:
        """Return which arrays of ``module`` are received, sent and kept; by default all are shared.

        Raises:
            ConfigurationError: The strategy does not fit the module.
        """
        return partition(module, buffers=self.buffers)

    # What is added to the gradient.

    @property
    def changes_gradient(self) -> bool:
        """Whether :meth:`add_to_gradient_` does anything."""
        return False

    def add_to_gradient_(
        self, parameters: Iterable[Tensor], anchors: Iterable[Tensor], *, factor: float
    ) -> None:
        """Change ``param.grad`` of the shared model in place, after the backward pass and before clipping.

        Args:
            parameters: The parameters of one optimizer that are shared.
            anchors: The received global model, in the order of ``parameters``.
            factor: How the loss behind the gradients was scaled; scale what is added alike.
        """

    # What the device keeps.

    @property
    def keeps_model(self) -> bool:
        """Whether the device trains a second, personal model beside the shared one."""
        return False

    def add_to_personal_gradient_(
        self, parameters: Iterable[Tensor], anchors: Iterable[Tensor], *, factor: float
    ) -> None:
        """Change ``param.grad`` of the personal model in place, as :meth:`add_to_gradient_` does."""

    def origin_of(self, name: str) -> str:
        """Return which array of the global model a kept array starts from in the device's first round.

        If the origin is a received array, :meth:`add_to_personal_gradient_` is called for the kept one.
        """
        return name

    # How it is parametrized.

    def filled_from(self, config: RoundConfig) -> Self:
        """Return this strategy with what the user left open taken from a round's configuration."""
        wanted = {name: getattr(config, name) for name in self.round_fields if _is_open(getattr(self, name))}
        given = {name: value for name, value in wanted.items() if value is not None}
        return dataclasses.replace(self, **given) if given else self

    def conflicts_with(self, config: RoundConfig) -> tuple[str, ...]:
        """Return one line for each explicit argument that differs from a round's configuration."""
        pairs = [(name, getattr(self, name), getattr(config, name)) for name in self.round_fields]
        return tuple(
            f"{name} is {mine!r} here and {theirs!r} in the round"
            for name, mine, theirs in pairs
            if not _is_open(mine) and theirs is not None and mine != theirs
        )

    def check_complete(self) -> None:
        """Check that nothing is left open.

        Raises:
            ConfigurationError: An argument was given neither by the user nor by the round.
        """
        for name in self.round_fields:
            if _is_open(getattr(self, name)):
                raise ConfigurationError(
                    f"{type(self).__name__} needs {name}: give it here, or in the round's configuration"
                )


def _is_open(value: object) -> bool:
    return value is None or value == ()


def check_strength(name: str, value: object) -> None:
    """Check that a strength is finite and at least 0, or left open.

    Raises:
        ConfigurationError: It is neither.
    """
    if value is None:
        return
    if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
        raise ConfigurationError(f"{name} must be a number, finite and at least 0, not {value!r}")
