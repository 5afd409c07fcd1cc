from __future__ import annotations

import base64
import gzip
import hashlib
import io
import random
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml_client._transport.downloads import PROGRESS_BYTES, announced_digest
from edgeml_client._transport.files import download_to_file
from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.sinks import FileSink
from edgeml_client.errors import ConnectionFailedError, InvalidResponseError, NotFoundError
from edgeml_client.testing import Exchange, Reply, ScriptedServer

CONTENT = random.Random(7).randbytes(200_000)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
SHA_256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()


def serving(
    content: bytes, *, etag: str | None = '"v1"', cuts: list[int] | None = None
) -> Callable[[Exchange], Reply]:
    """Return a script that knows ranges, and drops the first connections after ``cuts`` bytes each."""
    left = list(cuts or [])

    def reply(exchange: Exchange) -> Reply:
        headers = {} if etag is None else {"ETag": etag}
        cut = left.pop(0) if left else None
        wanted = exchange.headers.get("range")
        if wanted is None or exchange.headers.get("if-range") != etag:
            return Reply(body=content, headers=headers, cut_after_bytes=cut)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers |= {"Content-Range": place}
        return Reply(status=206, body=content[start:], headers=headers, cut_after_bytes=cut)

    return reply


def test_a_download_brings_the_content_and_its_digest(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/file", serving(CONTENT, etag=f'"{DIGEST}"'))

    download = transport.download("/file", params={"format": "safetensors"})

    assert download.data == CONTENT
    assert (download.num_bytes, download.digest) == (200_000, DIGEST)
    assert server.requests("GET", "/file")[0].query == {"format": "safetensors"}


def test_after_a_dropped_connection_only_the_rest_is_asked_for(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    server.on("GET", "/file", serving(CONTENT, cuts=[150_000]))

    download = transport.download("/file")

    first, second = server.requests("GET", "/file")
    assert download.data == CONTENT
    assert "range" not in first.headers
    assert second.headers["if-range"] == '"v1"'
    assert second.headers["range"].startswith("bytes=")
    assert transport.num_bytes_received == len(CONTENT)


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=6),
    etag=st.sampled_from(['"v1"', 'W/"v1"', None]),
)
def test_wherever_connections_drop_the_content_arrives_as_it_was(cuts: list[int], etag: str | None) -> None:
    with ScriptedServer() as server:
        server.on("GET", "/file", serving(CONTENT, etag=etag, cuts=cuts))
        transport = HttpTransport(api_base=server.api_base, auth_token_provider=None, max_attempts=8)

        data = transport.download("/file").data
        transport.close()

    assert data == CONTENT


def test_content_that_changed_meanwhile_is_fetched_from_its_start(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    old, new = serving(b"a" * 200_000, etag='"v1"', cuts=[120_000]), serving(b"b" * 150_000, etag='"v2"')
    server.on("GET", "/file", old, new)

    assert transport.download("/file").data == b"b" * 150_000


def test_a_connection_that_made_progress_is_no_failure(server: ScriptedServer) -> None:
    """Six drops are survived with two attempts, since each brought enough."""
    server.on("GET", "/file", serving(b"x" * (8 * PROGRESS_BYTES), cuts=[PROGRESS_BYTES + 1] * 6))
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=None, max_attempts=2)

    assert transport.download("/file").num_bytes == 8 * PROGRESS_BYTES
    transport.close()


def test_starting_over_again_and_again_is_no_progress(server: ScriptedServer) -> None:
    """Without an ETag every try starts at 0, so the fourth failure beyond the first mark is the last."""
    server.on("GET", "/file", serving(CONTENT, etag=None, cuts=[150_000] * 1_000))
    transport = HttpTransport(api_base=server.api_base, auth_token_provider=None, max_attempts=4)

    with pytest.raises(ConnectionFailedError, match="/file"):
        transport.download("/file")
    transport.close()

    assert len(server.requests("GET", "/file")) <= 5


@pytest.mark.parametrize(
    "headers",
    [
        {"Repr-Digest": f"sha-256=:{SHA_256}:"},
        {"Content-Digest": f"sha-512=:AAAA:, sha-256=:{SHA_256}:"},
        {"ETag": f'"{DIGEST}"'},
    ],
)
def test_content_must_have_the_digest_that_was_announced(
    server: ScriptedServer, transport: HttpTransport, headers: dict[str, str]
) -> None:
    damaged = CONTENT[:-1] + b"!"
    server.on("GET", "/good", Reply(body=CONTENT, headers=headers))
    server.on("GET", "/once", Reply(body=damaged, headers=headers), Reply(body=CONTENT, headers=headers))
    server.on("GET", "/bad", Reply(body=damaged, headers=headers))

    assert transport.download("/good").digest == DIGEST
    assert transport.download("/once").data == CONTENT
    with pytest.raises(InvalidResponseError, match="not what it announced"):
        transport.download("/bad")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Repr-Digest": "sha-256=:short:"},
        {"Repr-Digest": "sha-256=:not base64:"},
        {"Repr-Digest": "md5=:AAAA:"},
        {"ETag": '"v1"'},
        {"Content-Digest": f"sha-256=:{SHA_256}:", "Content-Range": "bytes 5-9/10"},
    ],
)
def test_what_is_no_digest_of_the_whole_is_none(headers: dict[str, str]) -> None:
    assert announced_digest(httpx.Headers(headers)) is None


@pytest.mark.parametrize(
    "place", ["bytes 7-199999/200000", "lines 1-2/3", "", "bytes 150000-199999/" + "9" * 5_000]
)
def test_another_range_than_was_asked_for_is_not_used(
    server: ScriptedServer, transport: HttpTransport, place: str
) -> None:
    start = serving(CONTENT, cuts=[150_000])
    wrong = Reply(status=206, body=b"other bytes", headers={"Content-Range": place})
    server.on("GET", "/file", start, wrong, serving(CONTENT))

    assert transport.download("/file").data == CONTENT


def test_content_that_was_encoded_on_the_way_is_never_resumed(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    """A position in the decoded content says nothing about a position in what the server sends."""
    headers = {"ETag": '"v1"', "Content-Encoding": "gzip"}
    packed = gzip.compress(CONTENT)
    cut = Reply(body=packed, headers=headers, cut_after_bytes=150_000)
    server.on("GET", "/file", cut, Reply(body=packed, headers=headers))

    assert transport.download("/file").data == CONTENT
    assert "range" not in server.requests("GET", "/file")[1].headers


def test_content_of_unknown_length_is_fetched_again_from_its_start(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    """The connection broke after the last byte, before the end was told: there is no rest to ask for."""
    headers = {"Transfer-Encoding": "chunked", "ETag": '"v1"'}
    body = b"5\r\nbytes\r\n"
    server.on(
        "GET", "/file", Reply(body=body, headers=headers, cut_after_bytes=len(body)), Reply(body=b"bytes")
    )

    assert transport.download("/file").data == b"bytes"
    assert "range" not in server.requests("GET", "/file")[1].headers


def test_a_range_of_unknown_total_is_taken(server: ScriptedServer, transport: HttpTransport) -> None:
    def rest(exchange: Exchange) -> Reply:
        start = int(exchange.headers["range"].removeprefix("bytes=").rstrip("-"))
        return Reply(status=206, body=CONTENT[start:], headers={"Content-Range": f"bytes {start}-199999/*"})

    server.on("GET", "/file", serving(CONTENT, cuts=[150_000]), rest)

    assert transport.download("/file").data == CONTENT


def test_a_range_that_ends_too_early_is_not_the_content(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    def short(exchange: Exchange) -> Reply:
        start = int(exchange.headers["range"].removeprefix("bytes=").rstrip("-"))
        place = f"bytes {start}-{start + 9}/{len(CONTENT)}"
        return Reply(status=206, body=CONTENT[start : start + 10], headers={"Content-Range": place})

    server.on("GET", "/file", serving(CONTENT, cuts=[150_000]), short, serving(CONTENT))

    assert transport.download("/file").data == CONTENT


@pytest.mark.parametrize("headers", [{}, {"Transfer-Encoding": "chunked"}])
def test_content_over_the_limit_is_refused_whether_its_length_is_told_or_not(
    server: ScriptedServer, transport: HttpTransport, headers: dict[str, str]
) -> None:
    content = b"x" * 1_001
    body = b"3e9\r\n" + content + b"\r\n0\r\n\r\n" if headers else content
    server.on("GET", "/file", Reply(body=body, headers=headers))

    with pytest.raises(InvalidResponseError, match="more than the 1000 bytes"):
        transport.download("/file", max_bytes=1_000)
    assert transport.download("/file", max_bytes=1_001).data == content


def test_a_refused_download_says_why(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/file", Reply.of_json({"detail": "no version 9"}, status=404))

    with pytest.raises(NotFoundError, match="no version 9"):
        transport.download("/file")


def test_another_origin_never_sees_the_token(server: ScriptedServer, transport: HttpTransport) -> None:
    with ScriptedServer() as storage:
        storage.on("GET", "/blob", Reply(body=b"weights"))
        server.on("GET", "/blob", Reply(body=b"weights"))

        elsewhere = transport.download(f"{storage.api_base}/blob?signature=s")
        transport.download(f"{server.api_base}/blob?signature=s")

        (exchange,) = storage.requests("GET", "/blob")
        assert elsewhere.data == b"weights"
        assert "authorization" not in exchange.headers
        assert exchange.query == {"signature": "s"}
        assert "authorization" in server.requests("GET", "/blob")[0].headers


def test_content_may_go_to_an_open_file(server: ScriptedServer, transport: HttpTransport) -> None:
    server.on("GET", "/file", serving(CONTENT, cuts=[90_000, 50_000]))
    file = io.BytesIO()

    transport.download("/file", into=FileSink(file))

    assert file.getvalue() == CONTENT


def test_a_file_appears_whole(server: ScriptedServer, transport: HttpTransport, tmp_path: Path) -> None:
    server.on("GET", "/file", serving(CONTENT, cuts=[90_000, 50_000]))
    target = tmp_path / "new folder" / "model.safetensors"

    download = download_to_file(transport, "/file", target)

    assert target.read_bytes() == CONTENT
    assert (download.num_bytes, download.data) == (len(CONTENT), b"")
    assert [path.name for path in target.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=404),
        Reply(body=CONTENT, cut_after_bytes=9),
        Reply(body=b"", headers={"ETag": f'"{DIGEST}"'}),
    ],
)
def test_a_download_that_fails_leaves_what_was_there(
    server: ScriptedServer, transport: HttpTransport, tmp_path: Path, reply: Reply
) -> None:
    server.on("GET", "/file", reply)
    target = tmp_path / "model.bin"
    target.write_bytes(b"before")

    with pytest.raises((NotFoundError, ConnectionFailedError, InvalidResponseError)):
        download_to_file(transport, "/file", target)

    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model.bin"]
