"""Measures the models of a federation on the held-out data of its devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import RoundConfig
from edgeml_lightning.exchange import load_global_
from edgeml_lightning.naming import PERSONAL_PREFIX, under_prefix
from edgeml_lightning.personalization.choice import strategy_for
from edgeml_lightning.strategies import resolve_strategy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from edgeml_lightning.strategies import FederatedStrategy

__all__ = ["Judge"]


class Judge:
    """Runs the test loop, or the validation loop where there is no test, of global and of personal models.

    Args:
        module: Takes the global models, one after another.
        strategy: What the user's rounds do, which says what is shared.
        config: What the control plane asks of every round.
        trainer_options: What ``lightning.Trainer`` takes, such as the accelerator.
    """

    def __init__(
        self,
        module: L.LightningModule,
        *,
        strategy: FederatedStrategy | None,
        config: RoundConfig | None,
        trainer_options: Mapping[str, Any],
    ) -> None:
        resolved = resolve_strategy(strategy_for(module, strategy), config or RoundConfig()).strategy
        self.strategy_label = resolved.label
        self._module = module
        self._trainer = L.Trainer(**trainer_options)
        split = resolved.split(module)
        self._strategy = resolved
        self._received = split.received
        self._is_whole = all(resolved.origin_of(name) in split.received for name in split.kept)

    def shared_state(self) -> dict[str, Tensor]:
        """Return the arrays that devices share, as they are in the module now."""
        return self._strategy.shared_state(self._module)

    def measure_global(
        self, arrays: Mapping[str, Tensor], datamodule: L.LightningDataModule
    ) -> dict[str, float]:
        """Return what the global model scores; nothing where devices keep a part of it for themselves."""
        if not self._is_whole:
            return {}
        load_global_(self._module, {name: arrays[name] for name in self._received})
        figures = self._measure(self._module, datamodule)
        return {name: figure for name, figure in figures.items() if not name.startswith(PERSONAL_PREFIX)}

    def measure_personal(
        self, module: L.LightningModule | None, datamodule: L.LightningDataModule
    ) -> dict[str, float]:
        """Return what a device's personal model scores; nothing if it has none.

        A module that holds two models logs the personal one's figures under a prefix, which is removed.
        """
        if module is None:
            return {}
        figures = self._measure(module, datamodule)
        return under_prefix(figures, PERSONAL_PREFIX) or figures

    def _measure(self, module: L.LightningModule, datamodule: L.LightningDataModule) -> dict[str, float]:
        loop = self._loop(module, datamodule)
        figures: dict[str, float] = {}
        for of_one_loader in loop(module, datamodule=datamodule, verbose=False):
            figures.update({name: float(figure) for name, figure in of_one_loader.items()})
        return figures

    def _loop(self, module: L.LightningModule, datamodule: L.LightningDataModule) -> Any:  # noqa: ANN401 - Lightning's
        if is_overridden("test_step", module) and is_overridden("test_dataloader", datamodule):
            return self._trainer.test
        if is_overridden("validation_step", module) and is_overridden("val_dataloader", datamodule):
            return self._trainer.validate
        raise ConfigurationError(
            f"{type(module).__name__} and {type(datamodule).__name__} have no held-out data in common: "
            "give them test_step and test_dataloader, or validation_step and val_dataloader"
        )
