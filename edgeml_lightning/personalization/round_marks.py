"""Where a device stood when a round began and when it ended, so that a round can be run again exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue
from torch import Tensor

from edgeml_lightning.errors import PersonalStateError
from edgeml_lightning.naming import under_prefix, with_prefix
from edgeml_lightning.personalization.entry_file import (
    EntryDescription,
    PersonalKey,
    decode_entry,
    encode_entry,
)
from edgeml_lightning.randomness import RandomState

__all__ = ["Mark", "RoundMarks", "decode_marks", "encode_marks"]

_BEGAN: Final = "began/"
_ENDED: Final = "ended/"
_CARRIED: Final = "carried/"


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment of a device's training.

    Attributes:
        randomness: Where the random streams stood.
        carried: What a trainer of many rounds takes along besides, as far as it is plain JSON.
        arrays: The tensors of what it takes along.
    """

    randomness: RandomState
    carried: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])
    arrays: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


@dataclass(frozen=True, slots=True)
class RoundMarks:
    """The beginning of a device's latest round and, once it was trained, its end.

    Attributes:
        round_id: The round.
        seed: What torch was seeded with in the process that trained: ``torch.initial_seed()``.
        process: What tells that process from all others.
        began: Where the round began.
        ended: Where its training ended; ``None`` before.
    """

    round_id: str
    seed: int
    process: str
    began: Mark
    ended: Mark | None = None

    def to_start_from(self, *, round_id: str, seed: int, process: str) -> Mark | None:
        """Return where to start a round from, or ``None`` to start from where this process stands.

        A round that begins again starts from where it began. Another round starts from where the round
        before it ended, if that was in an earlier process which had the same seed: this one goes on for it.

        Args:
            round_id: The round that begins.
            seed: What torch was seeded with in this process.
            process: What tells this process from all others.
        """
        if self.round_id == round_id:
            return self.began
        return self.ended if self.process != process and self.seed == seed else None


class _Moment(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    numbers: dict[str, float | None]
    carried: dict[str, JsonValue]


class _Description(EntryDescription):
    format: Literal["edgeml-round/1"] = "edgeml-round/1"
    round_id: str
    seed: int
    process: str
    began: _Moment
    ended: _Moment | None


def encode_marks(key: PersonalKey, marks: RoundMarks) -> bytes:
    """Return the file that holds ``marks``; :func:`decode_marks` is its inverse."""
    began, tensors = _taken_apart(marks.began, _BEGAN)
    ended = None
    if marks.ended is not None:
        ended, more = _taken_apart(marks.ended, _ENDED)
        tensors |= more
    described = _Description(
        key=key,
        round_id=marks.round_id,
        seed=marks.seed,
        process=marks.process,
        began=began,
        ended=ended,
    )
    return encode_entry(described, tensors)


def decode_marks(data: bytes, *, key: PersonalKey) -> RoundMarks:
    """Return the marks in a file.

    Raises:
        PersonalStateError: The file is damaged, of another format, or belongs to another organization,
            device, model or strategy.
    """
    described, tensors = decode_entry(data, _Description, key=key)
    return RoundMarks(
        round_id=described.round_id,
        seed=described.seed,
        process=described.process,
        began=_put_together(described.began, tensors, _BEGAN),
        ended=None if described.ended is None else _put_together(described.ended, tensors, _ENDED),
    )


def _taken_apart(mark: Mark, prefix: str) -> tuple[_Moment, dict[str, Tensor]]:
    tensors, numbers = mark.randomness.taken_apart()
    carried: dict[str, Any] = json.loads(json.dumps(dict(mark.carried)))
    moment = _Moment(numbers=numbers, carried=carried)
    return moment, with_prefix(with_prefix(mark.arrays, _CARRIED) | tensors, prefix)


def _put_together(moment: _Moment, tensors: Mapping[str, Tensor], prefix: str) -> Mark:
    mine = under_prefix(tensors, prefix)
    try:
        randomness = RandomState.put_together(mine, moment.numbers)
    except (KeyError, ValueError, TypeError) as exc:
        raise PersonalStateError(f"its random streams cannot be read ({exc})") from exc
    return Mark(randomness, moment.carried, under_prefix(mine, _CARRIED))
