"""What every blob store promises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["BlobStore", "BlobWriter", "StoredBlob", "check_digest"]

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class StoredBlob:
    """A file that is stored for good.

    Attributes:
        digest: ``sha256:<hex>`` of its bytes, its only name.
    """

    digest: str
    size_bytes: int


def check_digest(digest: str) -> str:
    """Return ``digest`` if it is ``sha256:`` and 64 hexadecimal digits.

    Raises:
        ValueError: It is not; nothing else may become part of a path.
    """
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is not a digest: expected sha256: and 64 lower-case hexadecimal digits")
    return digest


class BlobWriter(Protocol):
    """A file being written; it does not exist for others before :meth:`commit`."""

    @property
    def num_bytes(self) -> int:
        """Bytes written so far."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of what was written so far."""
        ...

    def write(self, chunk: bytes | memoryview) -> None:
        """Append ``chunk``."""
        ...

    def peek(self) -> Path:
        """Return a local path to the bytes written so far, to check them before they are kept."""
        ...

    def commit(self) -> StoredBlob:
        """Make the file durable under its digest."""
        ...

    def discard(self) -> None:
        """Forget the file; does nothing after :meth:`commit`."""
        ...


class BlobStore(Protocol):
    """Files by digest; every method may be called from any thread."""

    def writer(self) -> BlobWriter:
        """Begin a file of unknown length; the caller must commit or discard it."""
        ...

    def put(self, chunks: Iterable[bytes | memoryview]) -> StoredBlob:
        """Store a file; it is durable when this returns, and not there at all if ``chunks`` raises."""
        ...

    def open(self, digest: str) -> BinaryIO:
        """Open the file for reading; raises ``FileNotFoundError`` if it is absent."""
        ...

    def path(self, digest: str) -> Path:
        """Return a local path to the file's bytes; raises ``FileNotFoundError`` if it is absent."""
        ...

    def size(self, digest: str) -> int:
        """Return the file's size in bytes; raises ``FileNotFoundError`` if it is absent."""
        ...

    def exists(self, digest: str) -> bool:
        """Return whether the file is there."""
        ...

    def delete(self, digest: str) -> None:
        """Remove the file; does nothing if it is absent."""
        ...

    def ping(self) -> None:
        """Return if files can be stored; raises ``OSError`` if not."""
        ...
