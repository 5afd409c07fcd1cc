"""Downloads to files that are there as a whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgeml_client._transport.http import Download, HttpTransport, QueryValue

__all__ = ["download_to_file"]


def download_to_file(
    transport: HttpTransport,
    path: str,
    destination: Path,
    *,
    params: Mapping[str, QueryValue] | None = None,
    max_bytes: int | None = None,
) -> Download:
    """Put content into a file: download beside it, check, sync, then rename over it.

    Args:
        transport: Used for the download.
        path: As in :meth:`HttpTransport.download`.
        destination: The file; its folder is made if it is not there.
        params: The query.
        max_bytes: Longer content is refused.

    Raises:
        OSError: The file cannot be written.
        EdgeMLClientError: As in :meth:`HttpTransport.download`; what was at ``destination`` is still there.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=destination.parent, prefix=f".{destination.name[:100]}-", suffix=".part"
    )
    part = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            download = transport.download(path, params=params, max_bytes=max_bytes, into=file)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)  # mkstemp made it readable by its owner alone
        part.replace(destination)
    finally:
        part.unlink(missing_ok=True)
    return download
