"""The limit of summing updates: torch adds one after the other to a single model in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

__all__ = ["sample_counts", "stream"]


def sample_counts(num_updates: int) -> list[int]:
    """Return how many samples stand behind each update; no two alike."""
    return [100 + 7 * number for number in range(num_updates)]


def stream(updates: Callable[[], Mapping[str, Tensor]], *, num_updates: int) -> Callable[[], int]:
    """Return a sample-weighted mean over ``num_updates`` results of ``updates()``."""

    def run() -> int:
        sums: list[Tensor] = []
        for count in sample_counts(num_updates):
            given = updates()
            values = [given[name] for name in sorted(given)]
            if sums:
                torch._foreach_add_(sums, values, alpha=count)
            else:
                sums = [value * count for value in values]
        torch._foreach_mul_(sums, 1 / sum(sample_counts(num_updates)))
        return 0

    return run
