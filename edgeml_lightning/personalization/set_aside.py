"""What cannot be used of a store is moved out of the way: never loaded, and never deleted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from edgeml_lightning.errors import PersonalStateError

__all__ = ["SET_ASIDE", "read_or_set_aside", "remove"]

_T = TypeVar("_T")

SET_ASIDE: Final = "refused"
"""The folder, beside the entries, that takes what cannot be used."""


def read_or_set_aside(path: Path, decode: Callable[[bytes], _T], *, otherwise: str) -> _T:
    """Return what an entry holds.

    Args:
        path: The entry.
        decode: Reads its bytes.
        otherwise: What starting again without the entry does.

    Raises:
        PersonalStateError: ``decode`` raised it, or there is no such file to read. It was set aside.
    """
    try:
        return decode(path.read_bytes())
    except (PersonalStateError, OSError) as exc:
        raise _set_aside(path, reason=str(exc), otherwise=otherwise) from exc


def remove(path: Path, *, otherwise: str) -> None:
    """Remove an entry; a folder in the place of one is set aside."""
    if path.is_dir() and not path.is_symlink():
        _set_aside(path, reason="it is a folder", otherwise=otherwise)
    else:
        path.unlink(missing_ok=True)


def _set_aside(path: Path, *, reason: str, otherwise: str) -> PersonalStateError:
    aside = path.parent / SET_ASIDE
    aside.mkdir(exist_ok=True)
    target, number = aside / path.name, 1
    while target.exists() or target.is_symlink():
        number += 1
        target = aside / f"{path.stem}-{number}{path.suffix}"
    path.rename(target)
    return PersonalStateError(
        f"in the personal store, {path.name} cannot be used: {reason}. It is kept as {target}; start again "
        f"to {otherwise}"
    )
