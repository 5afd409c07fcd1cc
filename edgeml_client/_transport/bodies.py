"""What is sent: JSON, bytes or a file, always with a known length and never read whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from pydantic import JsonValue
from typing_extensions import override

from edgeml_client.errors import EdgeMLClientError
from edgeml_client.schemas import WireBody

__all__ = ["CHUNK_BYTES", "Body", "BytesBody", "FileBody", "json_body"]

# httpcore slices what a socket did not take off the front, which copies the rest each time: without
# pieces, sending n bytes would cost n squared.
CHUNK_BYTES: Final = 256 * 1024


class Body(Protocol):
    """A request body that can be sent again from its start."""

    content_type: str

    @property
    def num_bytes(self) -> int:
        """The exact length."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the content from its start."""
        ...


class BytesBody(Body):
    """A body in memory."""

    def __init__(self, data: bytes | memoryview, *, content_type: str = "application/octet-stream") -> None:
        self._data = data
        self.content_type = content_type

    @property
    @override
    def num_bytes(self) -> int:
        return len(self._data)

    @override
    def chunks(self) -> Iterator[bytes]:
        view = memoryview(self._data)
        for start in range(0, len(view), CHUNK_BYTES):
            yield bytes(view[start : start + CHUNK_BYTES])


class FileBody(Body):
    """A body on disk, as long as the file was when the body was made.

    Raises:
        OSError: There is no such file, or it cannot be read.
    """

    def __init__(self, path: Path, *, content_type: str = "application/octet-stream") -> None:
        self._path = path
        self._num_bytes = path.stat().st_size
        self.content_type = content_type

    @property
    @override
    def num_bytes(self) -> int:
        return self._num_bytes

    @override
    def chunks(self) -> Iterator[bytes]:
        left = self._num_bytes
        with self._path.open("rb") as file:
            while left and (chunk := file.read(min(CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk
        if left:
            raise EdgeMLClientError(f"{self._path} shrank while it was sent: write it once, then upload it")


def json_body(body: WireBody | Mapping[str, JsonValue]) -> BytesBody:
    """Return ``body`` as JSON; of a schema, what is ``None`` is left out."""
    if isinstance(body, WireBody):
        text = body.model_dump_json(exclude_none=True)
    else:
        text = json.dumps(dict(body), allow_nan=False, separators=(",", ":"))
    return BytesBody(text.encode(), content_type="application/json")
