"""What a Trainer's checkpoint holds of a round, so that training goes on in the middle of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeml_lightning.callbacks.joined_round import BaseVersion, JoinedRound

if TYPE_CHECKING:
    from edgeml_lightning.callbacks.running_round import RunningRound
    from edgeml_lightning.personalization import PersonalState

__all__ = ["RoundCheckpoint", "usable"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCheckpoint:
    """Where training stands in a round, apart from what Lightning itself keeps and from what is personal.

    Attributes:
        round_id: The round.
        base: The version of the global model that it trains from.
        first_step: The Trainer's ``global_step`` when training began; ``None`` before.
        first_epoch: Its ``current_epoch`` then; ``None`` before.
        has_trained: Whether an optimizer has stepped while what is sent did not rest.
        step_sizes: See :class:`~edgeml_lightning.callbacks.running_companions.RunningCompanions`.
        streams: See :meth:`RoundStreams.state
            <edgeml_lightning.callbacks.round_streams.RoundStreams.state>`.
    """

    round_id: str
    base: BaseVersion
    first_step: int | None
    first_epoch: int | None
    has_trained: bool
    step_sizes: Mapping[str, float]
    streams: Mapping[str, Any]

    @classmethod
    def of(cls, running: RunningRound, *, streams: Mapping[str, Any]) -> RoundCheckpoint:
        """Return where a round stands, and its random streams with it."""
        return cls(
            round_id=running.assignment.round_id,
            base=running.base,
            first_step=running.first_step,
            first_epoch=running.first_epoch,
            has_trained=running.has_trained,
            step_sizes={} if running.companions is None else dict(running.companions.step_sizes),
            streams=streams,
        )

    def is_of(self, joined: JoinedRound) -> bool:
        """Return whether it is of this round *and* of the global model that the round starts from now.

        A control plane that was restored from a backup may give a round another base: its update would be
        taken against a model that was never trained on.
        """
        return (self.round_id, self.base) == (joined.assignment.round_id, joined.base)

    def to_state(self) -> dict[str, Any]:
        """Return plain dictionaries, numbers, strings and tensors, as Lightning checkpoints hold them."""
        return {
            "round_id": self.round_id,
            "base_version": self.base.version,
            "base_digest": self.base.digest,
            "first_step": self.first_step,
            "first_epoch": self.first_epoch,
            "has_trained": self.has_trained,
            "step_sizes": dict(self.step_sizes),
            "streams": dict(self.streams),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RoundCheckpoint:
        """Return what :meth:`to_state` wrote."""
        return cls(
            round_id=state["round_id"],
            base=BaseVersion(state["base_version"], state["base_digest"]),
            first_step=state["first_step"],
            first_epoch=state["first_epoch"],
            has_trained=state["has_trained"],
            step_sizes=state["step_sizes"],
            streams=state["streams"],
        )


def usable(
    resumed: RoundCheckpoint | None, saved: PersonalState | None, *, joined: JoinedRound
) -> tuple[RoundCheckpoint | None, PersonalState | None]:
    """Return what a round uses of a checkpoint: of another round the personal state, of another base nothing.

    Args:
        resumed: Where training stood in a round, if the checkpoint was of one.
        saved: What was personal, if anything.
        joined: The round that begins or goes on.
    """
    if resumed is None or resumed.is_of(joined):
        return resumed, saved
    if resumed.round_id != joined.assignment.round_id:
        return None, saved
    _log.warning(
        "%s: the checkpoint trained from another version of the global model, %s: the round begins again",
        resumed.round_id,
        resumed.base.version,
    )
    return None, None
