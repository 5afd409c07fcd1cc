"""Receiving a file that streams in: bounded, and with the digest its sender names."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from edgeml_server._http.body_receiver import PIECE_BYTES, BodyReceiver
from edgeml_server._http.limits import drain_body
from edgeml_server._http.problems import validation_sentence
from edgeml_server._http.protocol import TAKE_BODY
from edgeml_server.blobs import BlobWriter
from edgeml_server.errors import BadRequestError, BodyTooLargeError, InvalidContentError

__all__ = ["named_sha256", "parse_json", "receive_into"]

T = TypeVar("T", bound=BaseModel)

_SHA256_BYTES: Final = 32
_SHA256_MEMBER: Final = re.compile(r"\s*sha-256\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;.*)?", re.IGNORECASE)


def named_sha256(content_digest: str | None) -> str | None:
    """Return the digest in a ``Content-Digest`` header as ``sha256:<hex>``; ``None`` if it names none.

    RFC 9530, section 2: a dictionary of algorithms, each with its bytes in base64 between colons.
    Algorithms other than SHA-256 are passed over.

    Raises:
        BadRequestError: The SHA-256 in it cannot be read.

    Example:
        >>> named_sha256("sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:")
        'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    for member in (content_digest or "").split(","):
        if member.partition("=")[0].strip().lower() != "sha-256":
            continue
        found = _SHA256_MEMBER.fullmatch(member)
        try:
            digest = base64.b64decode(found.group(1), validate=True) if found else b""
        except binascii.Error:
            digest = b""
        if len(digest) != _SHA256_BYTES:
            raise BadRequestError("the sha-256 in Content-Digest is not 32 bytes in base64 between colons")
        return f"sha256:{digest.hex()}"
    return None


def parse_json(body_type: type[T], body: bytes) -> T:
    """Return a JSON body that was read by hand, because it may be large.

    Raises:
        BadRequestError: It is not JSON.
        InvalidContentError: It is not a ``body_type``.
    """
    try:
        return body_type.model_validate_json(body)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False, include_context=False)
        if errors[0]["type"] == "json_invalid":
            raise BadRequestError("the body is not valid JSON; was it cut short?") from exc
        raise InvalidContentError(validation_sentence(errors)) from exc


async def receive_into(writer: BlobWriter, request: Request, *, max_bytes: int, silence_s: float) -> None:
    """Write the body of a request to ``writer``, in pieces, off the event loop.

    Args:
        writer: What takes it.
        request: Whose body nobody has begun to read.
        max_bytes: How long it may be.
        silence_s: How long its sender may be silent.

    Raises:
        SilentSenderError: Nothing came for ``silence_s`` seconds.
        BodyTooLargeError: It is longer than ``max_bytes``; what was written must be discarded.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        await drain_body(request.receive)
        raise _too_large(max_bytes)
    take_body: Callable[[], BodyReceiver | None] | None = request.scope.get("extensions", {}).get(TAKE_BODY)
    receiver = None if take_body is None else take_body()
    if receiver is None:
        pieces = _gathered(request, max_bytes=max_bytes)
    else:  # it has the length that was declared
        pieces = receiver.pieces(silence_s=silence_s)
    async with aclosing(pieces):
        async for piece in pieces:
            await run_in_threadpool(writer.write, piece)


async def _gathered(request: Request, *, max_bytes: int) -> AsyncGenerator[memoryview]:
    """Yield the body in pieces that are worth a visit to another thread."""
    gathered = bytearray()
    num_bytes = 0
    async for chunk in request.stream():
        gathered += chunk
        num_bytes += len(chunk)
        if num_bytes > max_bytes:
            await drain_body(request.receive)
            raise _too_large(max_bytes)
        if len(gathered) >= PIECE_BYTES:
            yield memoryview(gathered)
            gathered = bytearray()
    yield memoryview(gathered)


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"an update of this model has at most {max_bytes} bytes; send the arrays of the registered model only"
    )
