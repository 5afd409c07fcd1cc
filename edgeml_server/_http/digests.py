"""Digests in headers, as RFC 9530 spells them."""

from __future__ import annotations

import base64
import binascii

from edgeml_server.errors import BadRequestError

__all__ = ["digest_field", "parse_digest_field"]

_SHA256_BYTES = 32


def digest_field(digest: str) -> str:
    """Return ``sha-256=:<base64>:`` for ``sha256:<hex>``."""
    raw = bytes.fromhex(digest.removeprefix("sha256:"))
    return f"sha-256=:{base64.b64encode(raw).decode()}:"


def parse_digest_field(value: str) -> str:
    """Return ``sha256:<hex>`` from the value of ``Content-Digest``, whichever other algorithms it holds.

    Raises:
        BadRequestError: It has no well-formed SHA-256.
    """
    for part in value.split(","):
        algorithm, _, coded = part.strip().partition("=")
        if algorithm.lower() == "sha-256" and coded.startswith(":") and coded.endswith(":"):
            try:
                raw = base64.b64decode(coded[1:-1], validate=True)
            except binascii.Error:
                break
            if len(raw) == _SHA256_BYTES:
                return f"sha256:{raw.hex()}"
    raise BadRequestError("Content-Digest must hold sha-256=:<base64 of the body's SHA-256>:")
