"""A form with files (RFC 7578), streamed, of a length known in advance."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping

from typing_extensions import override

from edgeml_client._transport.bodies import Body

__all__ = ["FormFile", "MultipartBody"]


class FormFile:
    """A file of a form.

    Args:
        name: The file name the server sees.
        body: Its content.
    """

    def __init__(self, name: str, body: Body) -> None:
        self.name = name
        self.body = body


class MultipartBody(Body):
    """A form of text fields and files."""

    def __init__(self, fields: Mapping[str, str], files: Mapping[str, FormFile]) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._parts: list[bytes | Body] = []
        for name, value in fields.items():
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
            self._parts.append(f"{head}{value}\r\n".encode())
        for name, file in files.items():
            head = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"; '
                f'filename="{_quoted(file.name)}"\r\nContent-Type: {file.body.content_type}\r\n\r\n'
            )
            self._parts += [head.encode(), file.body, b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())

    @property
    @override
    def num_bytes(self) -> int:
        return sum(len(part) if isinstance(part, bytes) else part.num_bytes for part in self._parts)

    @override
    def chunks(self) -> Iterator[bytes]:
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
            else:
                yield from part.chunks()


def _quoted(text: str) -> str:
    """Return ``text`` so that it cannot end the quoted string it goes into (WHATWG, multipart/form-data)."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
