"""What a round does to training on the device."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from torch import Tensor, nn

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import RoundConfig
from edgeml_client.schemas.numbers import is_normal_float32
from edgeml_client.wording import quoted
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import check_beside
from edgeml_lightning.partition import BufferPolicy, Partition, partition

__all__ = ["FederatedStrategy", "Mixing"]


@dataclass(frozen=True, slots=True)
class Mixing:
    r"""A personal model :math:`\alpha v + (1 - \alpha) w` of a device's own and the shared one.

    Attributes:
        alpha: A scalar in [0, 1]; changed in place if ``rate`` is positive.
        rate: The step with which it follows the gradient of the loss; 0 leaves it as it is.
    """

    alpha: Tensor
    rate: float = 0.0


@dataclass(frozen=True)
class FederatedStrategy(ABC):  # noqa: B024 - LightningCLI takes the subclasses of an ABC by their class paths
    """Says what is shared, what trains when, what is added to the gradient, and what the device keeps.

    A strategy is an immutable description; it holds no state of a round. To write one, subclass it as a
    frozen dataclass, override what differs from federated averaging, and hand an instance to
    ``FederatedCallback``. What a subclass may override:

    ===========================  ========================================================================
    ``name``, ``round_fields``   what rounds call it, and which of its arguments they may fill
    ``private_layers``           which layers stay on the device, with their buffers and optimizer state
    ``resting``, ``min_epochs``  which parameters rest in which epoch of a round
    ``changes_gradient``,        whether gradients of the fitted module are changed, and what is added to
    ``add_to_gradient_``         those of the shared parameters
    ``keeps_model``,             whether a second, personal model trains beside the shared one, what is added
    ``add_to_personal_           to its gradient, and how it is mixed with the shared one
    gradient_``, ``mixing``
    ``module_form``              the class with which users write both models as one module, if there is one
    ``own_arrays``               what else the device keeps from round to round
    ``origin_of``                which array of the global model a kept one starts from
    ``companions``,              what travels beside the model, how it corrects gradients, what becomes of the
    ``corrections``,             device's own in a round, and which part of that change is sent
    ``next_own``,
    ``companion_share``
    ``check_complete``           which of ``round_fields`` may be left open by user and round alike
    ``__post_init__``            the check of its arguments; call ``super().__post_init__()``
    ===========================  ========================================================================

    Args:
        buffers: What becomes of floating buffers such as BatchNorm's statistics: ``average``, ``local``
            (they stay on the device) or ``reset`` (every round starts from the global model's).
        trainable_only: Only parameters that require gradients travel, such as LoRA adapters; the frozen part
            of the model, and the buffers of frozen layers, stay as they are.
    """

    name: ClassVar[str] = ""
    """What a round's configuration calls this strategy."""

    round_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that a round's configuration may fill, under the same name, when the user left them open."""

    module_form: ClassVar[str | None] = None
    """The class whose subclasses hold the shared and the personal model in one module, if there is one."""

    buffers: BufferPolicy = field(default="average", kw_only=True)
    trainable_only: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.buffers not in {"average", "local", "reset"}:
            raise ConfigurationError(f'buffers must be "average", "local" or "reset", not {self.buffers!r}')

    @property
    def label(self) -> str:
        """What this strategy is called in records and in the personal store."""
        return self.name or type(self).__name__.lower()

    # What is shared.

    def private_layers(self, module: nn.Module) -> Sequence[str]:
        """Return the paths of the modules, or of single arrays, that stay on the device; by default none."""
        del module
        return ()

    def split(self, module: nn.Module) -> Partition:
        """Return which arrays of ``module`` are received, sent, kept and left alone.

        Raises:
            ConfigurationError: The strategy does not fit the module.
        """
        return partition(
            module,
            private_layers=self.private_layers(module),
            buffers=self.buffers,
            trainable_only=self.trainable_only,
        )

    def shared_state(self, module: nn.Module) -> dict[str, Tensor]:
        """Return what to register as the global model: the arrays of ``module`` that devices receive.

        What travels beside the model is part of it.

        Raises:
            ConfigurationError: The strategy does not fit the module.
        """
        state, companions = model_state(module), self.companions(module)
        check_beside(companions, of=self)
        return {name: state[name] for name in self.split(module).received} | companions

    # What trains when.

    @property
    def min_epochs(self) -> int:
        """The fewest epochs that a round must have."""
        return 1

    def resting(self, split: Partition, *, epoch: int) -> frozenset[str]:
        """Return the parameters that rest in one epoch of a round: their optimizer leaves them as they are.

        Args:
            split: The arrays of the module.
            epoch: Counts from 0 in every round.
        """
        del split, epoch
        return frozenset()

    @property
    def lets_rest(self) -> bool:
        """Whether parameters may rest at all: whether :meth:`resting` is overridden."""
        return type(self).resting is not FederatedStrategy.resting

    # What is added to the gradient.

    @property
    def changes_gradient(self) -> bool:
        """Whether anything is added to gradients of the fitted module before its optimizers step.

        That is :meth:`add_to_gradient_`, :meth:`corrections`, and :meth:`add_to_personal_gradient_` for kept
        arrays that start from a received one.
        """
        return False

    def add_to_gradient_(  # noqa: B027 - by default nothing is added
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

    def mixing(self, own: dict[str, Tensor]) -> Mixing | None:
        """Return how the personal model is mixed with the shared one; ``None`` if it stands for itself.

        Args:
            own: What :meth:`own_arrays` named, as it is now.
        """
        del own
        return None

    def own_arrays(self, module: nn.Module) -> dict[str, Tensor]:
        """Return what the device keeps beside arrays of the module, with what it starts from.

        What changes these tensors in place changes what is kept for the next round. A name holds a slash,
        so that no array of the module has it, and does not begin with ``personal/``.
        """
        del module
        return {}

    def add_to_personal_gradient_(  # noqa: B027 - as above
        self, parameters: Iterable[Tensor], anchors: Iterable[Tensor], *, factor: float
    ) -> None:
        """Change ``param.grad`` of the personal model in place, as :meth:`add_to_gradient_` does."""

    def origin_of(self, name: str) -> str:
        """Return which array of the global model a kept array starts from in the device's first round.

        If the origin is a received array, :meth:`add_to_personal_gradient_` is called for the kept one.
        """
        return name

    # What travels beside the model.

    def companions(self, module: nn.Module) -> dict[str, Tensor]:
        """Return what travels beside arrays of the module, with what it starts from; by default nothing.

        Each is one of :meth:`own_arrays` as well. Devices receive the global one; what is sent is
        :attr:`companion_share` of the change of their own. A name holds a slash.
        """
        del module
        return {}

    @property
    def companion_share(self) -> float:
        """Which part of the change of a companion is sent."""
        return 1.0

    def corrections(self, received: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the companions add to the gradient in every step of a round, by the parameter's name.

        Args:
            received: The global companions.
            own: The device's own arrays.
        """
        del received, own
        return {}

    def next_own(
        self,
        received: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        *,
        moved: Mapping[str, Tensor],
        step_sizes: Mapping[str, float],
    ) -> dict[str, Tensor]:
        """Return the own arrays after a round that had companions.

        Args:
            received: The global companions.
            own: The device's own arrays.
            moved: What the round changed in each parameter that trains.
            step_sizes: For each of these the sum of the learning rates of its steps.
        """
        del received, moved, step_sizes
        return dict(own)

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
            f"{name} is {quoted(mine)} here and {quoted(theirs)} in the round"
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
    """Check that a strength is 0 or a positive number of float32, or left open.

    Raises:
        ConfigurationError: It is neither.
    """
    if value is None:
        return
    if not (isinstance(value, int | float) and (value == 0 or (value > 0 and is_normal_float32(value)))):
        raise ConfigurationError(
            f"{name} must be a number, finite and at least 0, that float32 holds, not {quoted(value)}"
        )
