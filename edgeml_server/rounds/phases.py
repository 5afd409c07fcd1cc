"""Which phase of a round may follow which: the one table, and the one function that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from edgeml_client.schemas import RoundPhase

__all__ = ["ACTIVE_PHASES", "ENDED_PHASES", "NEXT_PHASES", "IllegalPhaseChangeError", "advance"]

NEXT_PHASES: Final[Mapping[RoundPhase, frozenset[RoundPhase]]] = MappingProxyType(
    {
        RoundPhase.SELECTING: frozenset({RoundPhase.TRAINING, RoundPhase.ABANDONED}),
        RoundPhase.TRAINING: frozenset({RoundPhase.AGGREGATING, RoundPhase.ABANDONED}),
        RoundPhase.AGGREGATING: frozenset({RoundPhase.COMPLETED, RoundPhase.ABANDONED}),
        RoundPhase.COMPLETED: frozenset(),
        RoundPhase.ABANDONED: frozenset(),
    }
)
"""Every allowed change of phase; whatever is not listed is refused."""

ENDED_PHASES: Final = frozenset(phase for phase, following in NEXT_PHASES.items() if not following)
"""Phases that nothing follows."""

ACTIVE_PHASES: Final = frozenset(NEXT_PHASES) - ENDED_PHASES
"""Phases that something still follows."""


class IllegalPhaseChangeError(ValueError):
    """A round was asked to change to a phase that may not follow its present one.

    Attributes:
        current: The phase the round is in.
        wanted: The phase it was asked to change to.
    """

    def __init__(self, current: RoundPhase, wanted: RoundPhase) -> None:
        allowed = ", ".join(sorted(NEXT_PHASES[current])) or "nothing, it has ended"
        super().__init__(f"a round that is {current} cannot become {wanted}; what may follow: {allowed}")
        self.current = current
        self.wanted = wanted


def advance(current: RoundPhase, wanted: RoundPhase) -> RoundPhase:
    """Return ``wanted``, if it may follow ``current``.

    Raises:
        IllegalPhaseChangeError: It may not.

    Example:
        >>> advance(RoundPhase.TRAINING, RoundPhase.AGGREGATING).value
        'aggregating'
    """
    if wanted not in NEXT_PHASES[current]:
        raise IllegalPhaseChangeError(current, wanted)
    return wanted
