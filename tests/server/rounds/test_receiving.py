"""Reading what is sent: the digest a sender names, and JSON that is read by hand."""

from __future__ import annotations

import base64
import hashlib

import pytest

from edgeml_client.schemas import WeightsUpload
from edgeml_server.errors import BadRequestError, InvalidContentError
from edgeml_server.rounds.receiving import named_sha256, parse_json

DIGEST = hashlib.sha256(b"x").digest()
NAMED = f"sha256:{DIGEST.hex()}"
MEMBER = f"sha-256=:{base64.b64encode(DIGEST).decode()}:"


@pytest.mark.parametrize(
    "header",
    [MEMBER, f"md5=:AAAA:, {MEMBER}", f" {MEMBER} ", MEMBER.replace("sha", "SHA"), f"{MEMBER};p=1"],
)
def test_the_sha256_of_a_content_digest_is_found(header: str) -> None:
    assert named_sha256(header) == NAMED


@pytest.mark.parametrize("header", [None, "", "md5=:AAAA:", "sha-512=:AAAA:", "nonsense"])
def test_a_header_that_names_none_is_no_mistake(header: str | None) -> None:
    assert named_sha256(header) is None


@pytest.mark.parametrize(
    "header",
    [
        "sha-256=::",
        "sha-256=:AA:",
        "sha-256=:AAAA:",
        "sha-256=:A=AA:",
        "sha-256=AAAA",
        'SHA-256="AA"',
        "sha-256=:-_-_:",
    ],
)
def test_a_sha256_that_cannot_be_read_is_one(header: str) -> None:
    with pytest.raises(BadRequestError, match="not 32 bytes in base64"):
        named_sha256(header)


def test_json_that_is_cut_short_and_json_that_is_wrong_are_told_apart() -> None:
    with pytest.raises(BadRequestError, match="cut short"):
        parse_json(WeightsUpload, b'{"model_id": ')
    with pytest.raises(InvalidContentError, match="version"):
        parse_json(WeightsUpload, b'{"model_id": "m"}')
