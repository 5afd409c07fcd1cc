from __future__ import annotations

import random
import threading
from contextlib import closing
from email import message_from_bytes
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client._transport.bodies import CHUNK_BYTES, BytesBody, FileBody, json_body
from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.multipart import FormFile, MultipartBody
from edgeml_client.errors import ConnectionFailedError, EdgeMLClientError, PayloadTooLargeError
from edgeml_client.schemas import Record
from edgeml_client.testing import Reply, ScriptedServer

CONTENT = random.Random(3).randbytes(3 * CHUNK_BYTES + 17)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "update.bin"
    path.write_bytes(CONTENT)
    return path


def test_content_arrives_as_it_is(server: ScriptedServer, transport: HttpTransport, file: Path) -> None:
    server.on("POST", "/updates", Reply.of_json({"status": "accepted"}))

    content_type = "application/vnd.edgeml.update"

    for body in (BytesBody(CONTENT, content_type=content_type), FileBody(file, content_type=content_type)):
        transport.call("POST", "/updates", Record, body=body)

    for exchange in server.requests("POST", "/updates"):
        assert exchange.body == CONTENT
        assert exchange.headers["content-length"] == str(len(CONTENT))
        assert exchange.headers["content-type"] == content_type
    assert transport.num_bytes_sent == 2 * len(CONTENT)


def test_a_repeated_upload_starts_at_the_start(
    server: ScriptedServer, transport: HttpTransport, file: Path
) -> None:
    server.on("POST", "/updates", Reply(status=503), Reply(drop=True), Reply())

    transport.call("POST", "/updates", Record, body=FileBody(file), idempotency_key="k")

    assert [exchange.body == CONTENT for exchange in server.requests("POST", "/updates")] == [True] * 3


@pytest.mark.timeout(10)
def test_content_is_given_the_time_of_downloads(server: ScriptedServer) -> None:
    """The server hangs: other calls would wait for a minute."""
    server.on("POST", "/updates", Reply(wait_for=threading.Event()))
    transport = HttpTransport(
        api_base=server.api_base, auth_token_provider=None, timeout=60, download_timeout=0.05, max_attempts=1
    )

    with closing(transport), pytest.raises(ConnectionFailedError, match="timed out"):
        transport.call("POST", "/updates", Record, body=BytesBody(b"numbers"))


def test_a_file_is_never_read_whole(file: Path) -> None:
    pieces = list(FileBody(file).chunks())

    assert max(map(len, pieces)) == CHUNK_BYTES
    assert b"".join(pieces) == CONTENT


@given(st.binary(max_size=3 * CHUNK_BYTES))
def test_bytes_are_sent_in_pieces(data: bytes) -> None:
    body = BytesBody(data)

    pieces = list(body.chunks())

    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)
    assert body.num_bytes == len(data)


def test_a_file_that_shrinks_while_it_is_sent_is_named(
    server: ScriptedServer, transport: HttpTransport, file: Path
) -> None:
    body = FileBody(file)
    file.write_bytes(b"short")

    with pytest.raises(EdgeMLClientError, match=r"update\.bin shrank"):
        transport.call("POST", "/updates", Record, body=body)


def test_a_file_that_grows_is_sent_as_long_as_it_was(file: Path) -> None:
    body = FileBody(file)
    file.write_bytes(CONTENT + b"more")

    assert b"".join(body.chunks()) == CONTENT


def test_a_file_that_is_not_there_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.bin"):
        FileBody(tmp_path / "absent.bin")


def test_json_holds_no_nan() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        json_body({"loss": float("nan")})


def test_a_refusal_during_the_upload_is_understood(
    server: ScriptedServer, transport: HttpTransport, file: Path
) -> None:
    server.on("POST", "/updates", Reply.of_json({"detail": "at most 10 bytes"}, status=413))

    with pytest.raises(PayloadTooLargeError, match="at most 10 bytes"):
        transport.call("POST", "/updates", Record, body=FileBody(file))


def test_a_form_holds_fields_and_files(file: Path) -> None:
    """The standard library reads what we write, and the announced length is the true one."""
    body = MultipartBody(
        {"version": "1", "description": "größer"},
        {
            "file": FormFile('we"ird\r\nname.bin', FileBody(file)),
            "onnx_data": FormFile("w", BytesBody(b"ww")),
        },
    )

    raw = b"".join(body.chunks())
    parts = message_from_bytes(f"Content-Type: {body.content_type}\r\n\r\n".encode() + raw).get_payload()

    assert len(raw) == body.num_bytes
    assert isinstance(parts, list)
    names = [part.get_param("name", header="content-disposition") for part in parts]  # type: ignore[union-attr]
    files = [part.get_filename() for part in parts]  # type: ignore[union-attr]
    contents = [part.get_payload(decode=True) for part in parts]  # type: ignore[union-attr]
    assert names == ["version", "description", "file", "onnx_data"]
    assert files == [None, None, "we%22ird%0D%0Aname.bin", "w"]
    assert contents == [b"1", "größer".encode(), CONTENT, b"ww"]
