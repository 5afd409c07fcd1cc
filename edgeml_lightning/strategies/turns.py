"""What trains in which epochs of a round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeml_lightning.partition import Partition

__all__ = ["Turn", "resting"]


@dataclass(frozen=True, slots=True)
class Turn:
    """Some epochs of a round in which a part of the model trains, and the optimizer leaves the rest alone.

    Attributes:
        trains: The parameters that the device keeps, those that are shared, or all.
        num_epochs: For how many epochs; the last turn of a round lasts to its end.
    """

    trains: Literal["kept", "shared", "all"]
    num_epochs: int = 1


def resting(turns: Sequence[Turn], split: Partition, *, epoch: int) -> frozenset[str]:
    """Return the arrays that rest in an epoch, which counts from 0 in every round; without turns none.

    Example:
        >>> split = Partition(received=("body",), sent=("body",), kept=("head",))
        >>> turns = [Turn("kept", 2), Turn("shared")]
        >>> [set(resting(turns, split, epoch=epoch)) for epoch in range(4)]
        [{'body'}, {'body'}, {'head'}, {'head'}]
    """
    if not turns:
        return frozenset()
    for turn in turns[:-1]:
        if epoch < turn.num_epochs:
            break
        epoch -= turn.num_epochs
    else:
        turn = turns[-1]
    return frozenset({"kept": split.received, "shared": split.kept, "all": ()}[turn.trains])
