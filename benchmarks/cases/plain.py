"""What every system is held against: what the memory of this machine allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.shapes import num_parameters

__all__ = ["Call", "Cases", "fresh_subtract", "memory_copy"]

Call = Callable[[], int]
"""Does the work once; returns how many bytes would leave the device, 0 where none do."""


@dataclass(frozen=True, slots=True)
class Cases:
    """What one process measures.

    Attributes:
        calls: The cases by name.
        limit: What they are held against; it runs just before each of them.
        num_parameters: Of the model; figures per parameter refer to it.
        for_peak: Another form of a case for measuring memory, where the timed one keeps its input at hand.
        close: Called at the end; removes files.
        is_cold: Whether each call starts with no free memory at hand: what happens once in a round does,
            a step among thousands does not.
    """

    calls: Mapping[str, Call]
    limit: Callable[[], object]
    num_parameters: int
    for_peak: Mapping[str, Call] = field(default_factory=dict)
    close: Callable[[], object] = lambda: None
    is_cold: bool = True


def fresh_subtract(base: Mapping[str, Tensor], updated: Mapping[str, Tensor]) -> Call:
    """Return the limit of making an update: one pass over both models into fresh memory."""

    def subtract() -> int:
        differences = {name: updated[name] - base[name] for name in base}
        return sum(4 * value.numel() for value in differences.values())

    return subtract


def memory_copy(size: str) -> Call:
    """Return a copy of one whole model between two buffers that are there already."""
    source = torch.ones(num_parameters(size))
    target = torch.zeros_like(source)
    return lambda: 4 * target.copy_(source).numel()
