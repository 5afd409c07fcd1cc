"""The words and figures of lines that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["counted", "headline", "kilobytes"]


def counted(number: int, noun: str) -> str:
    """Return ``1 round``, ``2 rounds``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def kilobytes(num_bytes: int) -> str:
    """Return a number of bytes in kB, of 1,000 bytes."""
    return f"{num_bytes / 1e3:.1f} kB"


def headline(metrics: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the one measurement to show: the first that is not a loss, or else the loss."""
    ranked = sorted(metrics.items(), key=lambda item: "loss" in item[0])
    return ranked[0] if ranked else None
