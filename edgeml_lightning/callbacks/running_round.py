"""A round while it runs: what was received, and what will be sent and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import lightning as L
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeml_client.errors import ModelMismatchError
from edgeml_client.filters import filters_of
from edgeml_client.schemas import RoundAssignment
from edgeml_lightning.callbacks.anchored_term import AnchoredTerm
from edgeml_lightning.callbacks.joined_round import BaseVersion, JoinedRound
from edgeml_lightning.callbacks.round_checkpoint import RoundCheckpoint
from edgeml_lightning.callbacks.running_companions import RunningCompanions
from edgeml_lightning.distributed import Ranks
from edgeml_lightning.exchange import model_state
from edgeml_lightning.partition import Partition
from edgeml_lightning.personalization import PersonalState
from edgeml_lightning.strategies import FederatedStrategy
from edgeml_lightning.strategies.turns import resting

__all__ = ["RunningRound"]


@dataclass(slots=True, kw_only=True)
class RunningRound:
    """One round between its download and its upload.

    Attributes:
        joined: Which round it is, and what it does to training.
        split: Which arrays are received, sent and kept.
        reference: The received floating arrays in the module's own dtypes: the anchor of proximal
            terms, and what the delta is taken against.
        terms: What the strategy adds to gradients of the module.
        names: The names of the module's parameters.
        sent_parameters: Those of them that are sent.
        own: What the device keeps beside arrays of the module; changed in place while it trains.
        companions: What becomes of what came beside arrays of the module; ``None`` where nothing came.
        recalled: What the device kept before this round, if anything.
        started_s: When the assignment was asked for, on a monotonic clock.
        resumed: The checkpoint it goes on from, if it does.
        first_step: The Trainer's ``global_step`` when training began; ``None`` before.
        first_epoch: Its ``current_epoch`` then; ``None`` before.
        has_trained: Whether an optimizer has stepped while what is sent did not rest.
        room_is_checked: Whether what the device keeps was found to fit, with what optimizers remember.
        sample_count: Training samples on this device.
        received_metrics: What the received global model scored in validation.
    """

    joined: JoinedRound
    split: Partition
    reference: Mapping[str, Tensor]
    terms: Sequence[AnchoredTerm]
    names: Mapping[nn.Parameter, str]
    sent_parameters: frozenset[str]
    own: dict[str, Tensor]
    companions: RunningCompanions | None
    recalled: PersonalState | None
    started_s: float
    resumed: RoundCheckpoint | None
    first_step: int | None = None
    first_epoch: int | None = None
    has_trained: bool = False
    room_is_checked: bool = False
    sample_count: int = 0
    received_metrics: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def assignment(self) -> RoundAssignment:
        """What the control plane asks for."""
        return self.joined.assignment

    @property
    def base(self) -> BaseVersion:
        """Which version of the global model was received."""
        return self.joined.base

    @property
    def strategy(self) -> FederatedStrategy:
        """What the round does to training."""
        return self.joined.strategy

    def why_unsent(self, *, num_steps: int, is_trial: bool) -> str | None:
        """Return why training left nothing to send; ``None`` if it did.

        Args:
            num_steps: Optimizer steps taken.
            is_trial: Whether training was only to see that the code runs.
        """
        if num_steps == 0:
            return "no optimizer step was taken"
        if self.strategy.turns and not self.has_trained:
            return "what is sent rested in every optimizer step"
        return "fast_dev_run trains for a trial only" if is_trial else None

    def require_arrays(self, module: nn.Module) -> None:
        """Check that training left the module every array that is sent or kept, in its shape.

        Raises:
            ModelMismatchError: It did not; every difference is listed.
        """
        state = model_state(module)
        mine = {*self.split.sent, *self.split.kept}
        problems = [f"{name}: absent from the module" for name in sorted(mine - state.keys())]
        problems += [
            f"{name}: {list(state[name].shape)} in the module, {list(received.shape)} as received"
            for name, received in sorted(self.reference.items())
            if name in mine & state.keys() and state[name].shape != received.shape
        ]
        if problems:
            raise ModelMismatchError(
                "training renamed, removed or reshaped arrays of the module, so nothing is sent; do it in "
                "the module's __init__, as weight normalization and pruning can be, and register that model:",
                problems,
            )

    def before_and_after(
        self, module: L.LightningModule, ranks: Ranks
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Return the arrays that are sent, as they were received and as they are: do not train on.

        The reference was cloned *after* the global model was loaded, so that rounding to the module's dtype
        is not part of the change.

        Args:
            module: The user's module, trained.
            ranks: The processes that trained it. Only the first gets the arrays.
        """
        state, sent = model_state(module), self.split.sent
        before = {name: self.reference[name] for name in sent}
        after = {name: state[name] for name in sent}
        if self.companions is not None:
            before |= self.companions.before
            after |= self.companions.after()
        return ranks.whole(before), ranks.whole(after)

    def drop_resting_gradients_(self, optimizer: Optimizer, *, epoch: int) -> None:
        """Drop the gradients of what rests in the Trainer's epoch ``epoch``: the optimizer passes over it."""
        at_rest = resting(self.strategy.turns, self.split, epoch=epoch - (self.first_epoch or 0))
        self.has_trained = self.has_trained or not at_rest >= self.sent_parameters
        if not at_rest:
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if self.names.get(parameter) in at_rest:
                    parameter.grad = None

    @property
    def changes_gradients(self) -> bool:
        """Whether anything is added to gradients of the module."""
        return bool(self.terms) or self.companions is not None

    def add_to_gradients_(self, optimizer: Optimizer, *, factor: float) -> None:
        """Add what the strategy adds to the gradients of one optimizer's parameters."""
        for term in self.terms:
            term.add_(optimizer, factor=factor)
        if self.companions is not None:
            self.companions.add_to_gradient_(optimizer, factor=factor)

    @property
    def filter_types(self) -> tuple[str, ...]:
        """The types of the filters that the round asks for."""
        return tuple(str(entry["type"]) for entry in filters_of(self.assignment.config))
