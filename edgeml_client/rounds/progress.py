"""How far a device is in one round: a pure state machine that refuses steps out of order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from edgeml_client.errors import RoundStateError

__all__ = ["NEXT_STEPS", "RoundProgress", "RoundStep"]


class RoundStep(StrEnum):
    """The last step that a device has completed in a round."""

    ASSIGNED = "assigned"
    DOWNLOADED = "downloaded"
    TRAINED = "trained"
    SUBMITTED = "submitted"


NEXT_STEPS: Final[Mapping[RoundStep, frozenset[RoundStep]]] = {
    RoundStep.ASSIGNED: frozenset({RoundStep.DOWNLOADED}),
    RoundStep.DOWNLOADED: frozenset({RoundStep.DOWNLOADED, RoundStep.TRAINED}),
    RoundStep.TRAINED: frozenset({RoundStep.SUBMITTED}),
    RoundStep.SUBMITTED: frozenset(),
}
"""What may follow what. ``trained`` means that the update lies in the outbox, so it is final."""

_REMEDIES: Final[Mapping[RoundStep, str]] = {
    RoundStep.ASSIGNED: "call download() first: the delta is measured against the model it returns",
    RoundStep.DOWNLOADED: "call submit() with the delta next",
    RoundStep.TRAINED: "its update is in the outbox: call flush_outbox() to send it",
    RoundStep.SUBMITTED: "its update is accepted: ask for the next assignment",
}


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """Where a device stands in a round.

    Attributes:
        round_id: The round.
        step: The last step completed.

    Example:
        >>> RoundProgress("r-1").advance(RoundStep.DOWNLOADED).step.value
        'downloaded'
        >>> RoundProgress("r-1").advance(RoundStep.SUBMITTED)
        Traceback (most recent call last):
            ...
        edgeml_client.errors.RoundStateError: round 'r-1' is assigned and cannot become submitted: \
call download() first: the delta is measured against the model it returns
    """

    round_id: str
    step: RoundStep = RoundStep.ASSIGNED

    def require(self, wanted: RoundStep) -> None:
        """Return when ``wanted`` may come next.

        Raises:
            RoundStateError: It may not; the message says what may.
        """
        if wanted not in NEXT_STEPS[self.step]:
            raise RoundStateError(
                f"round {self.round_id!r} is {self.step} and cannot become {wanted}: {_REMEDIES[self.step]}"
            )

    def advance(self, wanted: RoundStep) -> RoundProgress:
        """Return the progress after the step ``wanted``.

        Raises:
            RoundStateError: The step is out of order.
        """
        self.require(wanted)
        return RoundProgress(self.round_id, wanted)
