"""A download that survives dropped connections, and proves what it got."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import httpx

from edgeml_client._transport.answers import shown_url
from edgeml_client._transport.retry import BackOff, CorruptDownloadError
from edgeml_client._transport.sinks import Sink
from edgeml_client.errors import InvalidResponseError

__all__ = ["Download", "Downloading", "announced_digest"]

PROGRESS_BYTES: Final = 64 * 1024
"""A connection that brought this much is no failure: the count of failures starts anew."""

_RANGE: Final = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Download:
    """What a download brought.

    Attributes:
        num_bytes: The length of the content.
        digest: The SHA-256 of the content, as ``sha256:<hex>``, taken while it arrived.
        data: The content; empty if it went to a sink of the caller's.
    """

    num_bytes: int
    digest: str
    data: bytes = field(default=b"", repr=False)


def announced_digest(headers: httpx.Headers) -> str | None:
    """Return the SHA-256 of the *whole* content as ``sha256:<hex>``, if the headers tell it.

    ``Repr-Digest`` is about the whole, ``Content-Digest`` about this answer's body (RFC 9530), which is the
    whole unless the status is 206; an ``ETag`` that is itself ``sha256:<hex>`` counts as well.
    """
    whole = "content-range" not in headers
    for header in (headers.get("repr-digest"), headers.get("content-digest") if whole else None):
        for member in (header or "").split(","):
            algorithm, _, value = member.strip().partition("=")
            if algorithm.lower() == "sha-256" and (digest := _decoded(value)):
                return digest
    etag = (headers.get("etag") or "").strip('"')
    return etag if _DIGEST.fullmatch(etag) else None


def _decoded(value: str) -> str | None:
    try:
        raw = base64.b64decode(value.strip().strip(":"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return f"sha256:{raw.hex()}" if len(raw) == hashlib.sha256().digest_size else None


class Downloading:
    """The state of one download over several connections.

    Args:
        sink: Where the content goes.
        max_bytes: More than this is refused before it is stored; ``None`` sets no bound.
        back_off: Told when a connection brought the download further.
    """

    def __init__(self, sink: Sink, *, max_bytes: int | None, back_off: BackOff) -> None:
        self._sink = sink
        self._max_bytes = max_bytes
        self._back_off = back_off
        self._furthest = 0
        self._start_over()

    def headers(self) -> dict[str, str]:
        """Return the headers of the next request: for the whole, or for what is still missing."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self._num_bytes and self._resume_from:
            headers |= {"Range": f"bytes={self._num_bytes}-", "If-Range": self._resume_from}
        return headers

    def take(self, response: httpx.Response) -> Download:
        """Store what this answer brings.

        Raises:
            CorruptDownloadError: The content is complete and does not have the announced digest.
            InvalidResponseError: The content is longer than ``max_bytes``.
            httpx.TransportError: The connection broke; :meth:`headers` asks for the rest.
        """
        expected = self._position(response)
        self._check_size(expected or 0, response)
        self._take_room(expected or 0, response)
        for chunk in response.iter_bytes():
            self._check_size(self._num_bytes + len(chunk), response)
            self._append(chunk)
        return self._finish(response, expected)

    def _start_over(self) -> None:
        self._sink.clear()
        self._num_bytes = 0
        self._sha256 = hashlib.sha256()
        self._resume_from: str | None = None
        self._digest: str | None = None

    def _position(self, response: httpx.Response) -> int | None:
        """Go to where this answer starts; return the length of the whole content, if it is told."""
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            found = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or int(found[1]) != self._num_bytes:
                self._start_over()
                raise CorruptDownloadError(f"{_name(response)} answered another range than was asked for")
            self._digest = self._digest or announced_digest(response.headers)
            return None if found[2] == "*" else int(found[2])
        self._start_over()
        self._digest = announced_digest(response.headers)
        if "content-encoding" in response.headers:
            return None  # what is stored here is decoded: positions in it mean nothing to the server
        length = response.headers.get("content-length", "")
        if not length.isdecimal():
            return None  # all of it may be here when the connection breaks: there is no rest to ask for then
        etag = response.headers.get("etag")
        if etag and not etag.startswith("W/"):
            self._resume_from = etag
        return int(length)

    def _append(self, chunk: bytes) -> None:
        self._sink.write(chunk)
        self._sha256.update(chunk)
        self._num_bytes += len(chunk)
        if self._num_bytes >= self._furthest + PROGRESS_BYTES:
            self._furthest = self._num_bytes
            self._back_off.num_failures = 0

    def _check_size(self, num_bytes: int, response: httpx.Response) -> None:
        if self._max_bytes is not None and num_bytes > self._max_bytes:
            raise InvalidResponseError(
                f"{_name(response)} sends more than the {self._max_bytes} bytes that were expected: "
                "check the model and version, or raise the limit"
            )

    def _take_room(self, num_bytes: int, response: httpx.Response) -> None:
        try:
            self._sink.expect(num_bytes)
        except MemoryError as exc:
            raise InvalidResponseError(
                f"{_name(response)} announces {num_bytes} bytes, for which there is no memory here: "
                "check the model and version, or use a device with more"
            ) from exc

    def _finish(self, response: httpx.Response, expected: int | None) -> Download:
        digest = f"sha256:{self._sha256.hexdigest()}"
        complete = expected is None or self._num_bytes == expected
        if not complete or self._digest not in {None, digest}:
            self._start_over()
            raise CorruptDownloadError(
                f"{_name(response)} sent content that is not what it announced (length or SHA-256 differ): "
                "try again; if it stays so, something between here and the server changes the content"
            )
        return Download(num_bytes=self._num_bytes, digest=digest)


def _name(response: httpx.Response) -> str:
    return f"GET {shown_url(response.request.url)}"
