"""The personal side of a round: a second model, or arrays of the module that stay on the device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import lightning as L
from torch import nn

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.callbacks.mixture import alpha_name
from edgeml_lightning.callbacks.personal_training import PersonalTraining
from edgeml_lightning.callbacks.requirements import check_second_model
from edgeml_lightning.callbacks.running_round import RunningRound
from edgeml_lightning.distributed import LocalRanks, Ranks
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import (
    PERSONAL_PREFIX,
    divided_by_prefix,
    is_own,
    parameter_names,
    with_prefix,
)
from edgeml_lightning.personalization.optimizer_state import (
    OptimizerState,
    named_optimizer_state,
    remembered_bytes,
    restore_optimizer_state_,
)
from edgeml_lightning.personalization.personal_state import PersonalState

__all__ = ["PersonalSide"]

_Value = TypeVar("_Value")


class PersonalSide:
    """What a device has for itself in one round, from its recall to its keeping.

    Attributes:
        training: The second model and what trains it, for strategies that keep one.
        module: The personal model after a fit, as a module.

    Args:
        ranks: The processes that train together.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or LocalRanks()
        self.training: PersonalTraining | None = None
        self.module: L.LightningModule | None = None
        self._state: PersonalState | None = None
        self._fit: tuple[L.Trainer, L.LightningModule, RunningRound] | None = None
        self._kept_optimizer = OptimizerState()

    def begin(self, trainer: L.Trainer, module: L.LightningModule, running: RunningRound) -> None:
        """Take up what the device kept, or start from the received global model.

        Args:
            trainer: The user's Trainer.
            module: The user's module, with the global model loaded.
            running: The round.
        """
        self._fit = (trainer, module, running)
        personal = running.strategy.second_model
        if personal is not None:
            check_second_model(trainer, module, personal, of=running.strategy)
            self.training = PersonalTraining(
                trainer,
                module,
                strategy=running.strategy,
                personal=personal,
                anchors=running.reference,
                alpha=running.own.get(alpha_name(running.strategy)),
                ranks=self._ranks,
            )
        recalled = running.recalled
        if recalled is None:
            return
        arrays = {name: array for name, array in recalled.arrays.items() if not is_own(name)}
        second, kept = divided_by_prefix(arrays, PERSONAL_PREFIX)
        second_optimizer, self._kept_optimizer = recalled.optimizer.divided(PERSONAL_PREFIX)
        self._ranks.load_(module, kept)
        if self.training is not None:
            self.training.load_(second, second_optimizer)

    def start_training(self, trainer: L.Trainer, module: L.LightningModule, running: RunningRound) -> None:
        """Give optimizers back what they remembered of the personal parameters.

        Raises:
            ConfigurationError: No optimizer trains a parameter that the device keeps.
        """
        _check_covered(trainer, module, running)
        restore_optimizer_state_(trainer.optimizers, parameter_names(module), self._kept_optimizer)
        if self.training is not None:
            self.training.start()

    def state(self) -> PersonalState | None:
        """Return what is personal as it is now, for a checkpoint; ``None`` if nothing is.

        Where parameters are sharded, the first process alone gets it, and all must ask.
        """
        if self._fit is None:
            return self._state
        return _gathered(*self._fit, training=self.training, ranks=self._ranks)

    def num_bytes(self) -> int:
        """Return how many bytes :meth:`state` takes, without making it.

        What optimizers remember is counted once they have stepped.
        """
        if self._fit is None:
            return 0
        trainer, module, running = self._fit
        arrays = model_state(module)
        mine = [*(arrays[name] for name in running.split.kept), *running.own.values()]
        remembered = remembered_bytes(trainer.optimizers, _kept_parameters(module, running))
        second = 0 if self.training is None else self.training.num_bytes(fixed=running.split.fixed)
        return sum(array.nbytes for array in mine) + remembered + second

    def finish(self) -> PersonalState | None:
        """Let go of the Trainer; return what the device keeps after the round, if anything is personal."""
        self._state = self.state()
        if self.training is not None:
            self.module = self.training.release()
        elif self._fit is not None and self._fit[2].split.kept:
            self.module = self._fit[1]
        self.training, self._fit = None, None
        return self._state


def _gathered(
    trainer: L.Trainer,
    module: L.LightningModule,
    running: RunningRound,
    *,
    training: PersonalTraining | None,
    ranks: Ranks,
) -> PersonalState | None:
    kept = set(running.split.kept)
    mine = ranks.whole({name: array for name, array in model_state(module).items() if name in kept})
    arrays = {name: array.detach().to("cpu", copy=True) for name, array in mine.items()}
    optimizer = named_optimizer_state(trainer.optimizers, _kept_parameters(module, running))
    if training is not None:
        arrays |= with_prefix(_without(training.arrays(), running.split.fixed), PERSONAL_PREFIX)
        optimizer = optimizer.joined_with(training.optimizer_state(), prefix=PERSONAL_PREFIX)
    arrays |= {name: tensor.detach().to("cpu", copy=True) for name, tensor in running.own.items()}
    if not arrays:
        return None
    assignment = running.assignment
    return PersonalState(
        model_id=assignment.model_id,
        strategy=running.strategy.label,
        round_id=assignment.round_id,
        base_version=running.base.version,
        base_digest=running.base.digest,
        arrays=arrays,
        optimizer=optimizer,
    )


def _kept_parameters(module: L.LightningModule, running: RunningRound) -> dict[nn.Parameter, str]:
    kept = frozenset(running.split.kept)
    return {parameter: name for parameter, name in parameter_names(module).items() if name in kept}


def _without(values: Mapping[str, _Value], names: Iterable[str]) -> dict[str, _Value]:
    left_out = frozenset(names)
    return {name: value for name, value in values.items() if name not in left_out}


def _check_covered(trainer: L.Trainer, module: L.LightningModule, running: RunningRound) -> None:
    trained = {
        id(param)
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for param in group["params"]
    }
    kept = set(running.split.kept)
    forgotten = [
        name
        for param, name in parameter_names(module).items()
        if name in kept and param.requires_grad and id(param) not in trained
    ]
    if forgotten:
        raise ConfigurationError(
            f"no optimizer trains {', '.join(forgotten[:5])}, which the device is to keep for itself: "
            "pass self.parameters() in configure_optimizers"
        )
