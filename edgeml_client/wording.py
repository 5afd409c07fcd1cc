"""How a message names what came from elsewhere: in full where that is short, and never at any length."""

from __future__ import annotations

import reprlib
from typing import Final

__all__ = ["quoted"]

_LONGEST: Final = 80
_LARGEST_BITS: Final = 256

_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _LONGEST


def quoted(value: object) -> str:
    """Return ``value`` as Python writes it; of a long text or a long list, the two ends or the beginning.

    Example:
        >>> quoted("fedavg"), len(quoted("x" * 1_000_000))
        ("'fedavg'", 80)
    """
    if isinstance(value, int) and value.bit_length() > _LARGEST_BITS:
        return f"<a whole number of {value.bit_length()} bits>"  # Python writes none of very many digits
    return _SHORT.repr(value)
