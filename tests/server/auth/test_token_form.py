"""Tokens are opaque, recognisable, and nothing of them is shown."""

from __future__ import annotations

import hashlib

import pytest

from edgeml_server.auth.tokens import Token, TokenKind, derive_token, draw_token, parse_token, sha256_matches


@pytest.mark.parametrize("kind", TokenKind)
def test_a_token_is_its_prefix_its_id_and_32_secret_bytes(kind: TokenKind) -> None:
    token = draw_token(kind)

    prefix, found_kind, found_id, secret = token.text.split("_")

    assert (prefix, found_kind, found_id) == ("edgeml", kind.value, token.id)
    assert len(bytes.fromhex(secret)) == 32
    assert parse_token(token.text) == token


@pytest.mark.parametrize(
    "text",
    ["", "edgeml", "edgeml_at_00_00", "edgeml_xx_" + "0" * 32 + "_" + "0" * 64, "eyJhbGciOiJIUzI1NiJ9.e30.x"],
)
def test_anything_else_is_no_token(text: str) -> None:
    assert parse_token(text) is None


def test_two_tokens_are_never_the_same() -> None:
    assert draw_token(TokenKind.ACCESS).text != draw_token(TokenKind.ACCESS).text


def test_only_the_digest_is_held_and_it_recognises_the_token() -> None:
    token = Token(TokenKind.ACCESS, "0" * 32, "5" * 64)

    assert token.secret_sha256 == hashlib.sha256(b"5" * 64).hexdigest()
    assert sha256_matches(token, token.secret_sha256)
    assert not sha256_matches(draw_token(TokenKind.ACCESS), token.secret_sha256)


def test_a_derived_token_is_the_same_each_time_and_another_for_any_other_parent_kind_or_key() -> None:
    parent, other = draw_token(TokenKind.REFRESH), draw_token(TokenKind.REFRESH)

    derived = derive_token(TokenKind.REFRESH, parent, key=b"k")

    assert derived == derive_token(TokenKind.REFRESH, parent, key=b"k")
    others = {
        derive_token(TokenKind.REFRESH, other, key=b"k").secret,
        derive_token(TokenKind.ACCESS, parent, key=b"k").secret,
        derive_token(TokenKind.REFRESH, parent, key=b"l").secret,
        parent.secret,
    }
    assert derived.secret not in others


def test_printing_a_token_shows_no_secret() -> None:
    token = draw_token(TokenKind.REFRESH)

    assert token.secret not in repr(token)
