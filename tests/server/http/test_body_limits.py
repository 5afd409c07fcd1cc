"""A body is refused as soon as it is too large, before memory is spent on it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from edgeml_server import EmbeddedServer, Settings
from edgeml_server._http.limits import limit_of

SETTINGS = Settings(max_json_bytes=2_000, max_body_bytes=100_000, max_weights_json_bytes=50_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(tmp_path_factory.mktemp("server"), settings=SETTINGS) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/v1/models", 2_000),
        ("/api/v1/devices/register", 2_000),
        ("/api/v1/models/mdl_1/versions/upload", 100_000),
        ("/api/v1/training/rounds/rnd_1/updates", 100_000),
        ("/api/v1/training/rounds/rnd_1/secagg/masked", 100_000),
        ("/api/v1/training/weights", 50_000),
        ("/api/v1/training/personalized/dev_1", 50_000),
        ("/api/v1/training/weights/other", 2_000),
    ],
)
def test_files_weights_and_everything_else_have_limits_of_their_own(path: str, limit: int) -> None:
    assert limit_of(path, SETTINGS) == limit


def test_a_body_that_announces_too_much_is_refused(operator: httpx.Client) -> None:
    answer = operator.post("/models", content=b"x" * 2_001)

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert "2000 bytes" in answer.json()["detail"]


def test_a_body_that_does_not_say_how_long_it_is_is_counted(operator: httpx.Client) -> None:
    answer = operator.post("/models", content=iter([b"x" * 500] * 5))

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_a_body_just_within_the_limit_is_read(operator: httpx.Client) -> None:
    body = b'{"name": "a", "description": "' + b"x" * 1_000 + b'"}'

    answer = operator.post("/models", content=body.ljust(2_000), headers={"Content-Type": "application/json"})

    assert answer.status_code == 201


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_that_is_too_large_is_refused_and_not_kept(
    server: EmbeddedServer, operator: httpx.Client, tmp_path: Path, chunked: object
) -> None:
    model = operator.post("/models", json={"name": "digits"}).json()
    form = httpx.Request(
        "POST", operator.base_url, data={"version": "1"}, files={"file": ("m.onnx", b"x" * 200_000)}
    )
    body = form.read()

    answer = operator.post(
        f"/models/{model['id']}/versions/upload",
        content=iter([body[i : i + 10_000] for i in range(0, len(body), 10_000)]) if chunked else body,
        headers={"Content-Type": form.headers["Content-Type"]},
    )

    assert answer.status_code == 413
    assert list(Path(urlsplit(server.plane.settings.blob_url).path, "incoming").iterdir()) == []


def speak(server: EmbeddedServer, *lines: bytes, body: bytes = b"", stall: bool = False) -> bytes:
    """Send a request as it is written here, end or only stop sending, and return all that is answered."""
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(b"\r\n".join([*lines, b"", b""]) + body)
        if not stall:
            connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while chunk := connection.recv(65_536):
            received += chunk
    return bytes(received)


@pytest.mark.parametrize("length", [b"-1", b"many", b"1e3"])
def test_a_length_that_is_no_number_is_a_bad_request(server: EmbeddedServer, length: bytes) -> None:
    answer = speak(
        server, b"POST /api/v1/models HTTP/1.1", b"Host: x", b"Content-Length: " + length, body=b"{}"
    )

    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("length", "status"),
    [(b"100", b"408"), (b"100000", b"413")],
    ids=["within the limit", "too large, so that it is read only to be thrown away"],
)
def test_a_sender_that_falls_silent_is_answered_and_let_go(length: bytes, status: bytes) -> None:
    """``speak`` returns only when the server has closed the connection: the client never does."""
    with EmbeddedServer(settings=SETTINGS.model_copy(update={"body_silence_s": 0.05})) as server:
        token = server.create_operator_token(org_id="clinic-a").encode()
        answer = speak(
            server,
            b"POST /api/v1/models HTTP/1.1",
            b"Host: x",
            b"Authorization: Bearer " + token,
            b"Content-Type: application/json",
            b"Content-Length: " + length,
            body=b'{"name": ',
            stall=True,
        )

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'"code":"' + {b"408": b"request_timeout", b"413": b"payload_too_large"}[status] in answer


def test_a_file_that_stops_coming_is_refused_and_not_kept() -> None:
    with EmbeddedServer(settings=SETTINGS.model_copy(update={"body_silence_s": 0.05})) as server:
        token = server.create_operator_token(org_id="clinic-a")
        server.register_model(org_id="clinic-a", name="digits", state={"w": np.zeros(1)})
        model = httpx.get(f"{server.api_base}/models", headers={"Authorization": f"Bearer {token}"}).json()

        answer = speak(
            server,
            f"POST /api/v1/models/{model['models'][0]['id']}/versions/upload HTTP/1.1".encode(),
            b"Host: x",
            b"Authorization: Bearer " + token.encode(),
            b"Content-Type: multipart/form-data; boundary=b",
            b"Content-Length: 50000",
            body=b'--b\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\nabc',
            stall=True,
        )
        kept = list(Path(urlsplit(server.plane.settings.blob_url).path, "incoming").iterdir())

    assert answer.startswith(b"HTTP/1.1 408")
    assert kept == []


def test_a_sender_that_goes_away_leaves_nothing_and_the_server_answers_on(
    server: EmbeddedServer, operator: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    model = operator.post("/models", json={"name": "digits"}).json()
    token = operator.headers["Authorization"].encode()

    speak(
        server,
        f"POST /api/v1/models/{model['id']}/versions/upload HTTP/1.1".encode(),
        b"Host: x",
        b"Authorization: " + token,
        b"Content-Type: multipart/form-data; boundary=b",
        b"Content-Length: 50000",
        body=b'--b\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\nabc',
    )

    assert operator.get(f"/models/{model['id']}/versions").json()["total"] == 0
    assert "Traceback" not in caplog.text


def test_devices_too_are_held_to_the_limit(enrol: Callable[..., httpx.Client]) -> None:
    answer = enrol().post("/devices/register", json={"metadata": {"text": "x" * 3_000}})

    assert answer.status_code == 413
