"""Whether more rounds will follow one that a device knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeml_client.schemas.rounds import RoundAssignment, RoundPhase, RoundStatus

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["end_reason", "is_last", "newest_round", "over_after"]

_ENDED = frozenset({RoundPhase.COMPLETED, RoundPhase.ABANDONED})


def newest_round(round_id: str, *, get_status: Callable[[str], RoundStatus]) -> RoundStatus:
    """Follow a series from one of its rounds to the newest one that is open or over.

    Args:
        round_id: Where to begin.
        get_status: Asks the control plane.
    """
    status = get_status(round_id)
    seen = {round_id}
    while status.next_round_id is not None and status.next_round_id not in seen:
        seen.add(status.next_round_id)
        status = get_status(status.next_round_id)
    return status


def is_last(assignment: RoundAssignment) -> bool:
    """Return whether no other round follows in the series; ``False`` where the control plane does not say."""
    return assignment.num_rounds is not None and assignment.round_number == assignment.num_rounds


def end_reason(status: RoundStatus) -> str | None:
    """Return why no round will follow this one, in words for the user, or ``None`` if one may.

    Older control planes do not say how many rounds there are; then one may always follow.

    Args:
        status: The newest round of the series.
    """
    if status.state not in _ENDED or status.next_round_id is not None or status.num_rounds is None:
        return None
    if status.state == RoundPhase.ABANDONED:
        why = status.reason or "it was abandoned"
        return f"the federation ended in round {status.round_number} of {status.num_rounds}: {why}"
    if status.round_number != status.num_rounds:
        return None
    return over_after(status.num_rounds)


def over_after(num_rounds: int | None) -> str:
    """Return, in words for the user, that the last round of a series was played."""
    which = "the only round it had" if num_rounds == 1 else f"the last of its {num_rounds} rounds"
    return f"the federation is over: this was {which}"
