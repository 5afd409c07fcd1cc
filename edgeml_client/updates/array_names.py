"""Which arrays lie in which layer."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["is_under"]


def is_under(name: str, layers: Iterable[str]) -> bool:
    """Return whether ``name`` is one of ``layers`` or lies below one, by whole path segments.

    Example:
        >>> is_under("bn1.weight", ["bn1"]), is_under("bn10.weight", ["bn1"])
        (True, False)
    """
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)
