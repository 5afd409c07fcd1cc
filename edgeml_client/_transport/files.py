"""Downloads to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeml_client._transport.http import Download, HttpTransport, QueryValue
from edgeml_client._transport.sinks import FileSink
from edgeml_client.durable import replacing

__all__ = ["download_to_file"]


def download_to_file(
    transport: HttpTransport,
    path: str,
    destination: Path,
    *,
    params: Mapping[str, QueryValue] | None = None,
    max_bytes: int | None = None,
) -> Download:
    """Put content into a file, which is there as a whole or not at all.

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
    with replacing(destination, mode=0o666) as file:  # less what the user's umask takes away
        return transport.download(path, params=params, max_bytes=max_bytes, into=FileSink(file))
