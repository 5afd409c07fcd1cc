"""Which strategy a module's own class asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import lightning as L
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.personalization.ditto_module import MODELS, DittoModule
from edgeml_lightning.personalization.fedper_module import FedPerModule
from edgeml_lightning.strategies import Ditto, FederatedStrategy, FedPer, PersonalModel

__all__ = ["strategy_for"]


def strategy_for(module: L.LightningModule, given: FederatedStrategy | None) -> FederatedStrategy | None:
    """Return the user's strategy: what the module's class asks for and what the callback was given, as one.

    Raises:
        ConfigurationError: The two contradict each other.
        UnsupportedTrainingError: A ``DittoModule`` optimizes manually.
    """
    if isinstance(module, DittoModule):
        return _for_ditto(module, given)
    if isinstance(module, FedPerModule):
        return _for_fedper(module, given)
    return given


@dataclass(frozen=True)
class _DittoInside(Ditto):
    """Ditto whose personal model is a part of the module, and so is kept as a head is."""

    @property
    @override
    def personal_model(self) -> PersonalModel:
        return replace(super().personal_model, inside=MODELS)


def _for_ditto(module: DittoModule, given: FederatedStrategy | None) -> FederatedStrategy:
    if not module.automatic_optimization:
        raise UnsupportedTrainingError(
            f"{type(module).__name__} sets automatic_optimization=False, and a DittoModule trains both "
            "models by automatic optimization: remove that line"
        )
    if given is None:
        return _DittoInside(module.lambda_ditto)
    if not isinstance(given, Ditto):
        raise ConfigurationError(
            f"{type(module).__name__} is a DittoModule, and the callback was given {type(given).__name__}: "
            "leave strategy out, or use an ordinary LightningModule"
        )
    strengths = {given.lambda_ditto, module.lambda_ditto} - {None}
    if len(strengths) > 1:
        raise ConfigurationError(
            f"lambda_ditto is {module.lambda_ditto} in the module and {given.lambda_ditto} in the callback's "
            "strategy: give it in one place"
        )
    return _DittoInside(
        strengths.pop() if strengths else None,
        compiled=given.compiled,
        buffers=given.buffers,
        trainable_only=given.trainable_only,
    )


def _for_fedper(module: FedPerModule, given: FederatedStrategy | None) -> FederatedStrategy:
    if given is None:
        return FedPer(module.head_layers)
    if not isinstance(given, FedPer):
        raise ConfigurationError(
            f"{type(module).__name__} is a FedPerModule, and the callback was given {type(given).__name__}: "
            "leave strategy out, or use an ordinary LightningModule"
        )
    if given.head_layers and module.head_layers and set(given.head_layers) != set(module.head_layers):
        raise ConfigurationError(
            f"head_layers is {list(module.head_layers)} in the module and {list(given.head_layers)} in the "
            "callback's strategy: give it in one place"
        )
    return replace(given, head_layers=given.head_layers or module.head_layers)
