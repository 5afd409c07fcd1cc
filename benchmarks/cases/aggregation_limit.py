"""The limit of summing updates, and the same with the reading of a file in front of each."""

from __future__ import annotations

from safetensors.torch import load, save

from benchmarks.cases.plain import Cases
from benchmarks.cases.streaming import stream
from benchmarks.shapes import num_parameters, states

__all__ = ["cases"]


def cases(size: str, *, num_updates: int) -> Cases:
    """Return the limit, and the same with the decoding of a safetensors file for each update."""
    _, updated = states(size)
    file = save(updated)
    limit = stream(lambda: updated, num_updates=num_updates)
    return Cases(
        {
            "torch, arrays at hand": limit,
            "torch, from safetensors bytes": stream(lambda: load(file), num_updates=num_updates),
        },
        limit=limit,
        num_parameters=num_parameters(size),
    )
