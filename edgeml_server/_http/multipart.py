"""Forms with files, each file streamed into the blob store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from edgeml_server._http.streaming import in_larger_pieces
from edgeml_server.errors import BadRequestError, InvalidContentError, UnsupportedFormatError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks
    from starlette.requests import Request

    from edgeml_server.blobs import BlobStore, BlobWriter, StoredBlob

__all__ = ["FormFile", "ReceivedForm", "receive_form"]

_MAX_PARTS: Final = 64
_MAX_FIELD_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class FormFile:
    """A file of a form, stored.

    Attributes:
        file_name: As the sender called it; never a path here.
    """

    file_name: str
    blob: StoredBlob


@dataclass(frozen=True)
class ReceivedForm:
    """A form, by names."""

    fields: Mapping[str, str]
    files: Mapping[str, FormFile]


async def receive_form(request: Request, store: BlobStore) -> ReceivedForm:
    """Store the files of a ``multipart/form-data`` body while it arrives.

    Raises:
        UnsupportedFormatError: The body is of another type.
        BadRequestError: It ended too early, or is garbled.
        InvalidContentError: It has too many parts, or a field is too long.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise UnsupportedFormatError("send multipart/form-data with the part 'file' and the field 'version'")
    reader = _FormReader(options[b"boundary"], store)
    try:
        async for piece in in_larger_pieces(request.stream()):
            await asyncio.to_thread(reader.feed, piece)
        return reader.result()
    finally:
        await asyncio.to_thread(reader.discard)


@dataclass
class _Part:
    name: str = ""
    file_name: str | None = None
    value: bytearray = field(default_factory=bytearray)
    writer: BlobWriter | None = None


class _FormReader:
    def __init__(self, boundary: bytes, store: BlobStore) -> None:
        self._store = store
        self._fields: dict[str, str] = {}
        self._files: dict[str, FormFile] = {}
        self._part = _Part()
        self._num_parts = 0
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._is_complete = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._begin_part,
            "on_header_begin": self._begin_header,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._content,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as exc:
            raise BadRequestError(f"the form cannot be read: {exc}") from exc

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as exc:
            raise BadRequestError(f"the form cannot be read: {exc}") from exc

    def result(self) -> ReceivedForm:
        if not self._is_complete:
            raise BadRequestError("the form ended before its last boundary; send it again")
        return ReceivedForm(self._fields, self._files)

    def discard(self) -> None:
        if self._part.writer is not None:
            self._part.writer.discard()

    def _begin_part(self) -> None:
        self._num_parts += 1
        if self._num_parts > _MAX_PARTS:
            raise InvalidContentError(f"the form has more than {_MAX_PARTS} parts; send fewer")
        self._part = _Part()

    def _begin_header(self) -> None:
        self._header = (bytearray(), bytearray())

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _end_header(self) -> None:
        name, value = self._header
        if bytes(name).lower() != b"content-disposition":
            return
        _, options = parse_options_header(bytes(value))
        self._part.name = options.get(b"name", b"").decode(errors="replace")
        if b"filename" in options:
            self._part.file_name = options[b"filename"].decode(errors="replace")

    def _begin_content(self) -> None:
        if not self._part.name:
            raise InvalidContentError("a part of the form has no name; name every part")
        if self._part.file_name is not None:
            self._part.writer = self._store.writer()

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._part.writer is not None:
            self._part.writer.write(memoryview(data)[start:end])
            return
        self._part.value.extend(data[start:end])
        if len(self._part.value) > _MAX_FIELD_BYTES:
            raise InvalidContentError(
                f"the field {self._part.name!r} is longer than {_MAX_FIELD_BYTES} bytes"
            )

    def _end_part(self) -> None:
        part = self._part
        if part.writer is not None:
            self._files[part.name] = FormFile(part.file_name or "", part.writer.commit())
            part.writer = None
        else:
            self._fields[part.name] = bytes(part.value).decode(errors="replace")

    def _end(self) -> None:
        self._is_complete = True
