"""The limits themselves, held against each other."""

from __future__ import annotations

from benchmarks.cases.plain import Cases, fresh_subtract, memory_copy
from benchmarks.shapes import num_parameters, states

__all__ = ["cases"]


def cases(size: str) -> Cases:
    """Return a fresh subtract, which is the limit, and a memory copy."""
    base, updated = states(size)
    subtract = fresh_subtract(base, updated)
    return Cases(
        {"fresh subtract": subtract, "memory copy": memory_copy(size)},
        limit=subtract,
        num_parameters=num_parameters(size),
    )
