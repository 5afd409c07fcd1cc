"""How much of the disk a device's personal states take, and making room for one more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KeptFile", "files_under", "to_remove"]


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of a store.

    Attributes:
        path: Where it is.
        num_bytes: How large.
        age_key: Sorts files from old to new.
    """

    path: Path
    num_bytes: int
    age_key: int


def files_under(folder: Path) -> list[KeptFile]:
    """Return all files under ``folder``, set aside or not; none if there is no such folder."""
    found: list[KeptFile] = []
    for path in folder.rglob("*"):
        try:
            about = path.stat()
        except OSError:
            continue  # another process removed it meanwhile, or it is a link to nowhere
        if path.is_file():
            found.append(KeptFile(path, about.st_size, about.st_mtime_ns))
    return found


def to_remove(
    files: Iterable[KeptFile], *, new_bytes: int, max_bytes: int, removable: Collection[Path]
) -> tuple[list[KeptFile], int]:
    """Return which files make room for a new one, the oldest first, and how many bytes there are then.

    Args:
        files: All that is there, without what the new file replaces anyway.
        new_bytes: The size of the new file.
        max_bytes: What all may take together.
        removable: Files that may go. If these are not enough, the answer exceeds ``max_bytes``.

    Example:
        >>> old, new = (KeptFile(Path(name), 40, age) for age, name in enumerate(["old", "new"]))
        >>> gone, left = to_remove([new, old], new_bytes=40, max_bytes=100, removable=[old.path, new.path])
        >>> [file.path.name for file in gone], left
        (['old'], 80)
    """
    everything = list(files)
    total, gone = new_bytes + sum(file.num_bytes for file in everything), list[KeptFile]()
    for file in sorted(everything, key=lambda file: file.age_key):
        if total <= max_bytes:
            break
        if file.path in removable:
            gone.append(file)
            total -= file.num_bytes
    return gone, total
