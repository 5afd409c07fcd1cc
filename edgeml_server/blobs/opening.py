"""From a URL to the blob store it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from edgeml_server.blobs.local import LocalBlobStore
from edgeml_server.errors import SetupError

if TYPE_CHECKING:
    from edgeml_server.blobs.store import BlobStore

from pathlib import Path

__all__ = ["open_blob_store"]

_COMING: Final = {"s3": "s3", "gs": "gcs", "az": "azure"}


def open_blob_store(url: str) -> BlobStore:
    """Return the store that ``url`` names; a local folder is created if absent.

    Args:
        url: ``file:///absolute/path``.

    Raises:
        SetupError: The scheme is unknown or its extra is not there yet, or the folder cannot be made.
    """
    parts = urlsplit(url)
    if parts.scheme in _COMING:
        raise SetupError(
            f"the blob URL names {parts.scheme}://, which will come with the extra "
            f"'edgeml-lightning[{_COMING[parts.scheme]}]' and is not there yet; use file:///absolute/path"
        )
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise SetupError(f"the blob URL {url!r} is not understood; use file:///absolute/path")
    folder = Path(unquote(parts.path))
    try:
        return LocalBlobStore(folder)
    except OSError as exc:
        raise SetupError(f"the blob folder {folder} cannot be used: {exc.strerror}") from exc
