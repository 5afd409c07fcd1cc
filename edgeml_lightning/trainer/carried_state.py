"""What a trainer of many rounds takes along: counters, schedules, optimizers and its place in the data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.naming import parameter_names, under_prefix, with_prefix
from edgeml_lightning.personalization.optimizer_state import (
    OptimizerState,
    named_optimizer_state,
    restore_optimizer_state_,
)
from edgeml_lightning.randomness import RandomState, capture_randomness, restore_randomness_
from edgeml_lightning.trainer.counters import read_counters, set_counters_
from edgeml_lightning.trainer.cycling import DataPlace, LocalSteps
from edgeml_lightning.trainer.limits import check_memory
from edgeml_lightning.trainer.schedules import (
    GivenSettings,
    as_text,
    from_text,
    read_schedules,
    restore_schedules_,
)

if TYPE_CHECKING:
    from pydantic import JsonValue
    from torch import Tensor

    from edgeml_lightning.trainer.limits import RoundLimits

__all__ = ["CarriedState", "OptimizerPolicy", "SchedulePolicy"]

OptimizerPolicy: TypeAlias = Literal["reset", "keep"]
"""Whether optimizers forget, at the start of a round, what they remember of shared parameters."""

SchedulePolicy: TypeAlias = Literal["continue", "restart"]
"""Whether learning rate schedules count over the rounds, or each round from its own start."""

_OPTIMIZER: Final = "optimizer/"
_PLACE: Final = "place/"


class CarriedState(L.Callback):
    """Hands what one round leaves to the next, in this process or after a restart.

    Args:
        trainer: The trainer of the rounds.
        limits: How far each of them goes.
        optimizers: What becomes of optimizers' memory of shared parameters.
        schedules: What becomes of learning rate schedules.
        local_steps: The data, where rounds are a number of steps.
    """

    def __init__(
        self,
        trainer: L.Trainer,
        *,
        limits: RoundLimits,
        optimizers: OptimizerPolicy,
        schedules: SchedulePolicy,
        local_steps: LocalSteps | None,
    ) -> None:
        super().__init__()
        self._trainer = trainer
        self._limits = limits
        self._policies = (optimizers, schedules)
        self._local_steps = local_steps
        self._optimizer = OptimizerState()
        self._schedules: dict[str, Any] = {}
        self._given = GivenSettings({})
        self._trained: L.LightningModule | None = None
        self._streams: RandomState | None = None

    def hold_streams(self) -> None:
        """Let the random streams go on from here in the next fit.

        With several processes Lightning begins every fit with the seed of ``seed_everything`` again, and
        every round would draw the same dropout. What a fit draws before it trains stays repeatable.
        """
        self._streams = capture_randomness() if self._trainer.world_size > 1 else None

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained = None
        if self._streams is not None:
            restore_randomness_(self._streams)

    @override
    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to begin a fit from a checkpoint: it would count on from one round's place in another.

        Raises:
            ConfigurationError: It is loaded to be trained on, and not to be looked at.
        """
        if trainer.state.fn != TrainerFn.FITTING:
            return
        raise ConfigurationError(
            "the rounds of a FederatedTrainer do not go on from a checkpoint, because the device keeps what "
            "they hand on: call FederatedTrainer.fit again, and a round that was cut off is run again from "
            "its beginning. To go on in the middle of one, fit a Trainer with a FederatedCallback"
        )

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trained = pl_module
        if self._policies[0] == "keep":
            check_memory(trainer.optimizers)
        self._given = GivenSettings.of(trainer)
        self._restore_(pl_module)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        optimizers, schedules = self._policies
        if optimizers == "keep":
            self._optimizer = named_optimizer_state(trainer.optimizers, parameter_names(pl_module))
        if schedules == "continue" and trainer.lr_scheduler_configs:
            self._schedules = copy.deepcopy(read_schedules(trainer, given=self._given))

    def packed(self) -> tuple[dict[str, JsonValue], dict[str, Tensor]]:
        """Return all of it, in plain JSON and in tensors; processes after the first return their place alone.

        The rest is the same in all processes, and must stay so over restarts with more or fewer of them.
        """
        carried: dict[str, JsonValue] = {}
        arrays: dict[str, Tensor] = {}
        if self._trainer.is_global_zero:
            carried = {
                "counters": read_counters(self._trainer),
                "schedules": as_text(self._schedules),
                "optimizer_numbers": dict(self._optimizer.numbers),
                "optimizer_kinds": dict(self._optimizer.kinds),
            }
            arrays = with_prefix(self._optimizer.tensors, _OPTIMIZER)
        place = None if self._local_steps is None else self._local_steps.place
        if place is not None:
            tensors, numbers = place.began.taken_apart()
            arrays |= with_prefix(tensors, _PLACE)
            carried["place"] = {
                "num_taken": place.num_taken,
                "pass_number": place.pass_number,
                "numbers": dict(numbers),
            }
        return carried, arrays

    def unpack_(self, carried: Mapping[str, JsonValue], arrays: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`packed` returned, and let the round that begins go as far as any other."""
        facts: dict[str, Any] = dict(carried)
        if not facts:
            return
        set_counters_(self._trainer, facts["counters"])
        self._limits.move_to_here_(self._trainer)
        self._schedules = from_text(facts["schedules"])
        self._optimizer = OptimizerState(
            under_prefix(arrays, _OPTIMIZER), facts["optimizer_numbers"], facts["optimizer_kinds"]
        )
        if self._local_steps is not None:
            place = facts.get("place")
            self._local_steps.move_to_(
                None
                if place is None
                else DataPlace(
                    RandomState.put_together(under_prefix(arrays, _PLACE), place["numbers"]),
                    place["num_taken"],
                    place["pass_number"],
                )
            )
        if self._trained is not None:  # a sharded module's round begins when training has started
            self._restore_(self._trained)

    def _restore_(self, module: L.LightningModule) -> None:
        restore_optimizer_state_(self._trainer.optimizers, parameter_names(module), self._optimizer)
        restore_schedules_(self._trainer, copy.deepcopy(self._schedules), given=self._given)
