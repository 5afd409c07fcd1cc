"""Opaque tokens: a prefix that says the kind, an identifier to look up, 32 secret bytes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

__all__ = ["Token", "TokenKind", "derive_token", "draw_token", "parse_token", "sha256_matches"]

_FORM: Final = re.compile(r"edgeml_(bt|at|rt|op)_([0-9a-f]{32})_([0-9a-f]{64})")


class TokenKind(StrEnum):
    """What a token is for; the value is in its prefix, so that a leaked one can be recognised."""

    BOOTSTRAP = "bt"
    ACCESS = "at"
    REFRESH = "rt"
    OPERATOR = "op"


@dataclass(frozen=True)
class Token:
    """One token, in parts.

    Attributes:
        id: Finds the row; not secret.
    """

    kind: TokenKind
    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """What travels."""
        return f"edgeml_{self.kind.value}_{self.id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        """What is held."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def draw_token(kind: TokenKind) -> Token:
    """Return a fresh random token."""
    return Token(kind, secrets.token_hex(16), secrets.token_hex(32))


def derive_token(kind: TokenKind, parent: Token, *, key: bytes) -> Token:
    """Return the one token of ``kind`` that follows from ``parent``; nobody without ``key`` can compute it.

    A lost answer can so be given again without holding any secret in clear.
    """

    def part(purpose: str) -> str:
        message = f"{purpose}:{kind.value}:{parent.text}".encode()
        return hmac.new(key, message, hashlib.sha256).hexdigest()

    return Token(kind, part("id")[:32], part("secret"))


def parse_token(text: str) -> Token | None:
    """Return the token in ``text``, or ``None`` if it has not the form of one."""
    match = _FORM.fullmatch(text)
    return None if match is None else Token(TokenKind(match[1]), match[2], match[3])


def sha256_matches(token: Token, held: str) -> bool:
    """Return whether ``held`` is the SHA-256 of the token's secret, in constant time."""
    return hmac.compare_digest(token.secret_sha256, held)
