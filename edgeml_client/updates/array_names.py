"""What the name of an array says: in which layer it lies, and whether it holds variances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["is_under", "is_variance"]

_VARIANCES: Final = frozenset({"running_var", "moving_var", "moving_variance"})


def is_under(name: str, layers: Iterable[str]) -> bool:
    """Return whether ``name`` is one of ``layers`` or lies below one, by whole path segments.

    Example:
        >>> is_under("bn1.weight", ["bn1"]), is_under("bn10.weight", ["bn1"])
        (True, False)
    """
    return any(name == layer or name.startswith(f"{layer}.") for layer in layers)


def is_variance(name: str) -> bool:
    """Return whether an array holds variances such as BatchNorm's, by the last segment of its name.

    One that falls below zero makes every later forward pass NaN.

    Example:
        >>> is_variance("body.bn1.running_var"), is_variance("running_var.weight")
        (True, False)
    """
    return name.rpartition(".")[2] in _VARIANCES
