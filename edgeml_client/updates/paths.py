"""Names of files for names of anything."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import quote

__all__ = ["path_segment"]

_LONGEST_SEGMENT: Final = 120


def path_segment(name: str) -> str:
    """Return a file name for ``name``, unique to it and valid on every file system.

    Example:
        >>> path_segment("clinic/a"), path_segment("..")
        ('clinic%2Fa', '%2E%2E')
    """
    encoded = quote(name, safe="").replace(".", "%2E").replace("~", "%7E")
    if len(encoded) <= _LONGEST_SEGMENT:
        return encoded
    return f"{encoded[:40]}-{hashlib.sha256(name.encode()).hexdigest()}"
