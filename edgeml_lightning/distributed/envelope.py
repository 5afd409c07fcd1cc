"""What the first process tells the others: that it is alive, a result, or what went wrong."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from edgeml_lightning.errors import FederationError

__all__ = ["Failed", "StillWorking", "Succeeded"]


@dataclass(frozen=True, slots=True)
class StillWorking:
    """The sender is alive and goes on with what it does."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The work is done.

    Attributes:
        value: Its result.
    """

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The work raised an error, described such that another process can raise its like.

    An error is taken apart instead of being sent as it is, because many cannot be rebuilt from their ``args``
    alone. An interrupt becomes a :class:`FederationError`, since nobody interrupted the other processes, and
    so does an error whose class they cannot find.

    Attributes:
        rank: The process in which it was raised.
        kind: Its class.
        args: What ``Exception.args`` holds.
        facts: Its attributes.
    """

    rank: int
    kind: type[Exception]
    args: tuple[Any, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, error: BaseException, *, rank: int) -> Failed:
        """Describe ``error``, which was raised in process ``rank``."""
        kind = type(error)
        if isinstance(error, Exception) and _can_be_found(kind) and _is_plain((error.args, vars(error))):
            return cls(rank=rank, kind=type(error), args=error.args, facts=copy.deepcopy(vars(error)))
        return cls(
            rank=rank, kind=FederationError, args=(f"process {rank} ended with {kind.__name__}: {error}",)
        )

    def error(self) -> Exception:
        """Return the error to raise in another process.

        Example:
            >>> Failed.of(ValueError("no such layer"), rank=0).error()
            ValueError('no such layer')
        """
        error = self.kind.__new__(self.kind, *self.args)
        error.args = self.args
        error.__dict__.update(copy.deepcopy(dict(self.facts)))
        error.add_note(f"This happened in process {self.rank} of the training.")
        return error


def _can_be_found(kind: type[object]) -> bool:
    """Return whether another process finds the class by its name."""
    return getattr(sys.modules.get(kind.__module__), kind.__qualname__, None) is kind


def _is_plain(value: object) -> bool:
    """Return whether a value is made of nothing but numbers, strings and collections of these."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, cast("Mapping[object, object]", value).items()))
    if isinstance(value, tuple | list):
        return all(map(_is_plain, cast("Sequence[object]", value)))
    return value is None or isinstance(value, str | int | float | bytes)
