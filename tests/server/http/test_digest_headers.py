"""Digests travel as RFC 9530 spells them, and a body is held to its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request

from edgeml_server._http.digests import digest_field, parse_digest_field
from edgeml_server._http.problems import answer_problems
from edgeml_server._http.streaming import receive_blob
from edgeml_server.blobs import LocalBlobStore
from edgeml_server.errors import BadRequestError

BODY = b"x" * 3_000_000
SHA256 = hashlib.sha256(BODY)
DIGEST = f"sha256:{SHA256.hexdigest()}"


def test_a_digest_survives_the_header() -> None:
    field = digest_field(DIGEST)

    assert field == f"sha-256=:{base64.b64encode(SHA256.digest()).decode()}:"
    assert parse_digest_field(field) == DIGEST
    assert parse_digest_field(f"md5=:AAAA:, {field}") == DIGEST


@pytest.mark.parametrize(
    "field", ["", "sha-256=", "sha-256=::", "sha-256=:!!!!:", "sha-512=:AAAA:", "sha-256=AAAA"]
)
def test_a_header_without_a_sha_256_is_a_bad_request(field: str) -> None:
    with pytest.raises(BadRequestError, match="sha-256"):
        parse_digest_field(field)


@pytest.fixture
def store(tmp_path: Path) -> LocalBlobStore:
    return LocalBlobStore(tmp_path)


def send(store: LocalBlobStore, body: bytes, headers: dict[str, str]) -> httpx.Response:
    app = FastAPI()
    answer_problems(app)

    @app.post("/files")
    async def take(request: Request) -> dict[str, str]:
        return {"digest": (await receive_blob(request, store)).digest}

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.post("/files", content=body, headers=headers)

    return asyncio.run(post())


@pytest.mark.parametrize("headers", [{}, {"Content-Digest": digest_field(DIGEST)}])
def test_a_body_is_stored_under_its_digest(store: LocalBlobStore, headers: dict[str, str]) -> None:
    answer = send(store, BODY, headers)

    assert answer.json() == {"digest": DIGEST}
    assert store.path(DIGEST).read_bytes() == BODY


def test_a_body_that_is_not_what_its_digest_says_is_not_stored(store: LocalBlobStore, tmp_path: Path) -> None:
    answer = send(store, BODY + b"!", {"Content-Digest": digest_field(DIGEST)})

    assert answer.status_code == 400
    assert "Content-Digest" in answer.json()["detail"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
