"""How the versions that rounds produce are named."""

from __future__ import annotations

import re

__all__ = ["next_version"]

_LAST_NUMBER = re.compile(r"(\d+)(?=\D*$)")


def next_version(version: str) -> str:
    """Return the name of the version that follows: the last number in it plus one.

    Leading zeros keep their width, and a name without a number gets one.

    Example:
        >>> [next_version(name) for name in ("1", "2.0.9", "v007", "2026-rc1-cpu", "baseline")]
        ['2', '2.0.10', 'v008', '2026-rc2-cpu', 'baseline.1']
    """
    last = _LAST_NUMBER.search(version)
    if last is None:
        return f"{version}.1"
    digits = last.group()
    return f"{version[: last.start()]}{int(digits) + 1:0{len(digits)}d}{version[last.end() :]}"
