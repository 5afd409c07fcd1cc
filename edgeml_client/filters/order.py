"""Which filter may follow which: decided from what each declares, before any of them runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.step import FilterStep

__all__ = ["OrderProblem", "order_problems"]


@dataclass(frozen=True, slots=True)
class OrderProblem:
    """Two filters in the wrong order.

    Attributes:
        first: The type of the filter that stands first.
        second: The type of the one that may not follow it.
        reason: What goes wrong.
        instead: What to write.
        breaks_privacy: Whether the update would be protected less than it looks; otherwise the order only
            costs accuracy or bytes.
    """

    first: str
    second: str
    reason: str
    instead: str
    breaks_privacy: bool

    def __str__(self) -> str:
        return f"filter {self.second!r} may not follow {self.first!r}: {self.reason}; {self.instead}"


@dataclass(frozen=True, slots=True)
class _Rule:
    first: Callable[[FilterEffects], bool]
    second: Callable[[FilterEffects], bool]
    reason: str
    instead: str
    breaks_privacy: bool = False


_RULES: Final = (
    _Rule(
        lambda first: first.masks,
        lambda _: True,
        "a masked update is noise until the masks of all devices cancel in the sum, and what changes it "
        "alone ruins that sum",
        "write {first!r} last",
        breaks_privacy=True,
    ),
    _Rule(
        lambda first: first.sensitivity is Sensitivity.RANDOMIZES,
        lambda second: second.sensitivity is Sensitivity.BOUNDS,
        "noise hides an update only if its norm was bounded before, and clipping afterwards shrinks signal "
        "and noise alike",
        "write {second!r} before {first!r}",
        breaks_privacy=True,
    ),
    _Rule(
        lambda first: first.sensitivity is Sensitivity.RANDOMIZES,
        lambda second: second.sparsity is Sparsity.SELECTS_LARGEST,
        "the largest numbers are then those where the noise is largest, and little else is sent",
        "write {second!r} before {first!r}, or select with 'random_k', which looks at no number",
    ),
    _Rule(
        lambda first: first.quantizes,
        lambda second: second.selects,
        "the grid would be made for numbers that are not sent, and among rounded numbers many are equal",
        "write {second!r} before {first!r}",
    ),
)


def order_problems(
    steps: Sequence[FilterStep], *, behind: Sequence[FilterStep] = ()
) -> Iterator[OrderProblem]:
    """Yield for each rule the first pair of filters that breaks it, in the order of the rules.

    A pair that breaks several is given for the first of them.

    Args:
        steps: The filters.
        behind: Filters that run before them; their order among themselves is not looked at.
    """
    seen = set[tuple[int, int]]()
    for rule in _RULES:
        pair = _first_pair(rule, (*behind, *steps), num_behind=len(behind))
        if pair is not None and pair not in seen:
            seen.add(pair)
            yield _problem(rule, *((*behind, *steps)[number] for number in pair))


def _first_pair(rule: _Rule, steps: Sequence[FilterStep], *, num_behind: int) -> tuple[int, int] | None:
    """Return where the first two filters stand that break a rule; the second is not among ``num_behind``."""
    first: int | None = None
    for number, step in enumerate(steps):
        if first is not None and number >= num_behind and rule.second(step.step.effects):
            return first, number
        if first is None and rule.first(step.step.effects):
            first = number
    return None


def _problem(rule: _Rule, first: FilterStep, second: FilterStep) -> OrderProblem:
    return OrderProblem(
        first.type,
        second.type,
        rule.reason,
        rule.instead.format(first=first.type, second=second.type),
        rule.breaks_privacy,
    )
