"""What a round does to training on the device."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import PERSONAL_PREFIX, parameter_names
from edgeml_lightning.partition import BufferPolicy, Partition, partition
from edgeml_lightning.strategies.class_checks import check_class
from edgeml_lightning.strategies.companions import Companions
from edgeml_lightning.strategies.gradient_term import GradientTerm
from edgeml_lightning.strategies.personal_model import ModelPair, PersonalModel
from edgeml_lightning.strategies.turns import Turn

__all__ = ["FederatedStrategy"]


@dataclass(frozen=True)
class FederatedStrategy(ABC):  # noqa: B024 - LightningCLI takes the subclasses of an ABC by their class paths
    """Says what is shared, what is added to the gradient, what trains when, and what the device keeps.

    A strategy is an immutable description; it holds no state of a round. To write one, subclass it as a
    frozen dataclass, override what differs from federated averaging, and hand an instance to
    ``FederatedCallback``. Every override stands for itself:

    ======================  =============================================================================
    ``private_layers``      which layers stay on the device, with their buffers and optimizer state
    ``gradient_term``       what is added to the gradients of the shared parameters
    ``turns``               what trains in which epochs of a round
    ``personal_model``      a second model that trains on the device, beside the shared one
    ``companions``          what travels beside the model, such as control variates
    ======================  =============================================================================

    ``__post_init__`` may check arguments; it calls ``super().__post_init__()``.

    Args:
        buffers: What becomes of floating buffers such as BatchNorm's statistics: ``average``, ``local``
            (they stay on the device) or ``reset`` (every round starts from the global model's).
        trainable_only: Only parameters that require gradients travel, such as LoRA adapters; the frozen part
            of the model, and the buffers of frozen layers, stay as they are.

    Raises:
        ConfigurationError: An argument cannot work, or the subclass is not written as it must be.
    """

    name: ClassVar[str] = ""
    """What a round's configuration calls this strategy."""

    round_fields: ClassVar[tuple[str, ...]] = ()
    """Arguments that a round's configuration fills, under the same name, where the user left them open."""

    optional_round_fields: ClassVar[tuple[str, ...]] = ()
    """Arguments that it may fill, and that may be left open by user and round alike."""

    buffers: BufferPolicy = field(default="average", kw_only=True)
    trainable_only: bool = field(default=False, kw_only=True)

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Refuse a class with a slip in it, before its constructor complains of arguments."""
        del args, kwargs
        check_class(cls)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if self.buffers not in {"average", "local", "reset"}:
            raise ConfigurationError(f'buffers must be "average", "local" or "reset", not {self.buffers!r}')
        if self.label == PERSONAL_PREFIX.removesuffix("/"):
            raise ConfigurationError(
                f"{type(self).__name__} must not be called {self.label!r}, as the arrays of a personal model "
                "are: give the class another name"
            )

    # What a strategy may say.

    def private_layers(self, module: nn.Module) -> Sequence[str]:
        """Return the paths of the modules, or of single arrays, that stay on the device; by default none."""
        del module
        return ()

    @property
    def gradient_term(self) -> GradientTerm | None:
        """What is added to the gradients of the shared parameters, with the received model as anchors."""
        return None

    @property
    def turns(self) -> Sequence[Turn]:
        """What trains, turn after turn, in the epochs of a round; empty if everything always does."""
        return ()

    @property
    def personal_model(self) -> PersonalModel | None:
        """The second model that trains on the device, if there is one."""
        return None

    @property
    def companions(self) -> Companions | None:
        """What travels beside the model, if anything does."""
        return None

    # What follows from it.

    @property
    def label(self) -> str:
        """What this strategy is called in records and in the personal store."""
        return self.name or type(self).__name__.lower()

    @property
    def min_epochs(self) -> int:
        """The fewest epochs that a round must have, so that every turn begins."""
        return 1 + sum(turn.num_epochs for turn in self.turns[:-1])

    @property
    def second_model(self) -> PersonalModel | None:
        """The personal model, if it is trained as a copy of the user's module and not inside of it."""
        return self.personal_model if self._inside is None else None

    def origin_of(self, name: str) -> str:
        """Return which array of the global model a kept array starts from in the device's first round."""
        return name if self._inside is None else self._inside.origin_of(name)

    def split(self, module: nn.Module) -> Partition:
        """Return which arrays of ``module`` are received, sent, kept and left alone.

        Raises:
            ConfigurationError: The strategy does not fit the module.
        """
        second = () if self._inside is None else (self._inside.personal,)
        return partition(
            module,
            private_layers=(*self.private_layers(module), *second),
            buffers=self.buffers,
            trainable_only=self.trainable_only,
        )

    def companion_arrays(self, module: nn.Module) -> dict[str, Tensor]:
        """Return what :attr:`companions` start from, by name, beside the parameters of ``module``.

        Raises:
            ConfigurationError: The strategy does not fit the module.
        """
        if self.companions is None:
            return {}
        sent = frozenset(self.split(module).sent)
        return {
            f"{self.label}/{name}": torch.zeros(parameter.shape, device=parameter.device)
            for parameter, name in parameter_names(module).items()
            if name in sent and parameter.requires_grad
        }

    def shared_state(self, module: nn.Module) -> dict[str, Tensor]:
        """Return what to register as the global model: the arrays of ``module`` that devices receive.

        What travels beside the model is part of it.

        Raises:
            ConfigurationError: The strategy does not fit the module.
        """
        state = model_state(module)
        shared = {name: state[name] for name in self.split(module).received}
        return shared | self.companion_arrays(module)

    @property
    def _inside(self) -> ModelPair | None:
        return None if self.personal_model is None else self.personal_model.inside
