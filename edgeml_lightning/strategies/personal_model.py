"""A model of the device's own, beside the shared one."""

from __future__ import annotations

from dataclasses import dataclass

from edgeml_client.errors import ConfigurationError
from edgeml_client.updates.array_names import is_under
from edgeml_lightning.strategies.gradient_term import GradientTerm

__all__ = ["Mixing", "ModelPair", "PersonalModel"]


@dataclass(frozen=True, slots=True)
class Mixing:
    r"""A personal model :math:`\alpha v + (1 - \alpha) w` of a device's own and the shared one.

    Attributes:
        alpha: A number in [0, 1].
        rate: The step with which it follows the gradient of the loss, from ``alpha`` on; the device keeps
            where it went. 0 leaves it as it is.
    """

    alpha: float
    rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPair:
    """Where one module holds both models: the paths of two children of the same architecture.

    Attributes:
        shared: The path of the shared model, such as ``"model"``.
        personal: The path of the personal one, such as ``"personal_model"``.
    """

    shared: str
    personal: str

    def origin_of(self, name: str) -> str:
        """Return the shared model's name of an array of the personal one, and any other name as it is.

        Example:
            >>> ModelPair(shared="model", personal="personal_model").origin_of("personal_model.0.weight")
            'model.0.weight'
        """
        return self.shared + name.removeprefix(self.personal) if is_under(name, [self.personal]) else name


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalModel:
    """A second model, which never leaves the device and trains with the shared one on the same batches.

    It begins as a copy of the first global model that the device receives.

    Attributes:
        gradient_term: What is added to its gradient, with the received global model as anchors; ``None`` adds
            nothing.
        mixing: How it is mixed with the shared one; ``None`` where it stands for itself.
        inside: Where the user's module holds both; ``None`` where it is the shared model, and is copied.
        module_form: The class with which users write both as one module, if there is one; errors point to it.

    Raises:
        ConfigurationError: Both ``mixing`` and ``inside`` are given.
    """

    gradient_term: GradientTerm | None = None
    mixing: Mixing | None = None
    inside: ModelPair | None = None
    module_form: str | None = None

    def __post_init__(self) -> None:
        if self.mixing is not None and self.inside is not None:
            raise ConfigurationError(
                "a personal model that lies inside the user's module cannot be mixed with the shared one: "
                "leave out mixing or inside"
            )
