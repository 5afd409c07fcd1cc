"""What the first process of a training does for all: it talks to the control plane and keeps files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
from torch import Tensor

from edgeml_client.errors import EdgeMLClientError, RoundClosedError, StaleBaseError, UnprocessableError
from edgeml_lightning.callbacks.connection import Connection
from edgeml_lightning.callbacks.joined_round import JoinedRound
from edgeml_lightning.callbacks.kept_marks import KeptMarks
from edgeml_lightning.callbacks.running_round import RunningRound
from edgeml_lightning.callbacks.waiting import find_other_model, wait_for_round
from edgeml_lightning.errors import FederationError, NoRoundAssignedError
from edgeml_lightning.personalization import (
    PersonalKey,
    PersonalState,
    PersonalStore,
    RoundMarks,
    recall,
    strategy_for,
)
from edgeml_lightning.strategies import FederatedStrategy, resolve_strategy

if TYPE_CHECKING:
    from edgeml_client.schemas import UpdateReceipt

__all__ = ["FirstProcess"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstProcess:
    """The part of a round that is done once, however many processes train.

    Attributes:
        connection: Makes and holds the client.
        model: Name or id of the global model.
        strategy: What a round does to training, if that was given here.
        filters: Filters for the update, after those that the round asks for.
        wait_s: For how long to wait for a round, in seconds.
        when_unassigned: What to do if none comes.
        personal_store: Where personal state is kept, if not beside the client's other state.
    """

    connection: Connection
    model: str
    strategy: FederatedStrategy | None
    filters: Sequence[Mapping[str, Any]]
    wait_s: float
    when_unassigned: Literal["raise", "train_locally"]
    personal_store: PersonalStore | None

    def join(self, module: L.LightningModule) -> JoinedRound | None:
        """Wait for a round, join it and download its global model.

        Returns:
            ``None`` if there is no round, and training is to go on without one.

        Raises:
            NoRoundAssignedError: There is no round, and there is to be one.
            ConfigurationError: The strategy or the filters do not go with the round.
            EdgeMLClientError: The control plane could not be reached, or refused.
        """
        client = self.connection.client()
        assignment = wait_for_round(client, model=self.model, wait_s=self.wait_s)
        if assignment is None:
            if self.when_unassigned == "raise":
                raise NoRoundAssignedError(
                    model=self.model,
                    waited_s=self.wait_s,
                    other_model_id=find_other_model(client, model=self.model),
                )
            return None
        resolved = resolve_strategy(strategy_for(module, self.strategy), assignment.config)
        for conflict in resolved.conflicts:
            _log.warning("%s: %s; what was given here is used", assignment.round_id, conflict)
        device_round = client.join_round(assignment)
        device_round.check_filters(self.filters)
        return JoinedRound.of(assignment, resolved.strategy, device_round)

    def files(self, joined: JoinedRound) -> tuple[PersonalStore, PersonalKey]:
        """Return the store of what this device keeps, and under which name it does so in a round."""
        return self.personal_store or self.connection.personal_store(), self.connection.key(joined)

    def check_room(self, joined: JoinedRound, *, num_bytes: int) -> None:
        """Check that what the device keeps after a round, at least ``num_bytes``, will fit.

        Raises:
            PersonalStoreFullError: It will not.
        """
        store, key = self.files(joined)
        store.check_room(key, num_bytes=num_bytes)

    def recall(
        self,
        joined: JoinedRound,
        expected: Mapping[str, Tensor],
        *,
        saved: PersonalState | None,
    ) -> PersonalState | None:
        """Return what the device kept before a round, or in it as far as the checkpoint that goes on.

        Args:
            joined: The round.
            expected: The arrays it must have, by name.
            saved: What the checkpoint held, if training was started from one.

        Raises:
            PersonalStateError: What was found does not fit, or there is no room for it.
        """
        store, key = self.files(joined)
        if joined.strategy.companions is not None:
            store.take_back(key, was_refused=self.connection.was_refused)
        self.check_room(joined, num_bytes=sum(array.nbytes for array in expected.values()))
        round_id = joined.assignment.round_id
        return recall(store, key, expected=expected, round_id=round_id, from_checkpoint=saved)

    def conclude(
        self,
        running: RunningRound,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        *,
        metrics: Mapping[str, float],
        kept: PersonalState | None,
        marks: Sequence[RoundMarks],
    ) -> tuple[UpdateReceipt, FederationError | None]:
        """Keep what is personal, then where training ended, then upload what it changed.

        Args:
            running: The round, trained.
            before: The arrays that are sent, as they were received.
            after: The same arrays, trained.
            metrics: Figures about the training.
            kept: What the device keeps, if anything is personal.
            marks: Where the random streams stand, by process.

        Returns:
            The receipt, and why what is personal could not be kept, if it could not.

        Raises:
            EdgeMLClientError: The update was refused, or could not be sent.
        """
        store, key = self.files(running.joined)
        not_kept = _keep(kept, running, store=store, key=key)
        KeptMarks(store, key).save(marks)
        try:
            receipt = running.joined.submit(
                before,
                after,
                sample_count=running.sample_count,
                metrics=metrics,
                filters=self.filters,
            )
        except EdgeMLClientError as exc:
            if not_kept is not None:
                exc.add_note(f"What is personal could not be kept either: {not_kept}")
            is_refused = isinstance(exc, RoundClosedError | StaleBaseError | UnprocessableError)
            if is_refused and kept is not None and running.companions is not None:
                # The global companions do not follow this update, so the device's own must not either.
                arrays = {**kept.arrays, **running.companions.before}
                _keep(replace(kept, arrays=arrays), running, store=store, key=key)
            raise
        if not_kept is not None:
            not_kept.add_note(f"The update of {running.assignment.round_id} was sent all the same.")
        return receipt, not_kept


def _keep(
    state: PersonalState | None, running: RunningRound, *, store: PersonalStore, key: PersonalKey
) -> FederationError | None:
    """Return why the state could not be kept, where the update can be sent all the same."""
    if state is None:
        return None
    if not all(bool(tensor.isfinite().all()) for tensor in state.arrays.values()):
        _log.warning("the personal model holds NaN or Inf; the one from before this round is kept")
        return None
    try:
        store.save(key, state)
    except FederationError as exc:
        if running.companions is not None:
            raise  # the update would move the global companions, and the device's own would not follow
        return exc
    return None
