"""Digests in headers, as RFC 9530 spells them."""

from __future__ import annotations

import base64

__all__ = ["digest_field"]


def digest_field(digest: str) -> str:
    """Return ``sha-256=:<base64>:`` for ``sha256:<hex>``."""
    raw = bytes.fromhex(digest.removeprefix("sha256:"))
    return f"sha-256=:{base64.b64encode(raw).decode()}:"
