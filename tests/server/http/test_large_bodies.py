"""Large bodies take a way of their own between socket and disk, and nobody who speaks HTTP can tell."""

from __future__ import annotations

import hashlib
import http.client
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from edgeml_client.updates.update_file import UPDATE_CONTENT_TYPE, encode_update
from edgeml_server import EmbeddedServer, Settings
from tests.full_disk import longest_file
from tests.server.rounds.fleet import FleetDevice, content_digest

SIZE = 800_001
"""So many numbers are 3.2 MB: several pieces, and an end within one."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    settings = Settings(body_silence_s=0.5)
    with EmbeddedServer(tmp_path_factory.mktemp("server"), settings=settings) as running:
        yield running


class Line:
    """A device with one connection, on which it says what a test wants to be said."""

    def __init__(self, server: EmbeddedServer, *, size: int = SIZE) -> None:
        org = f"org-{uuid.uuid4().hex[:12]}"
        server.register_model(org_id=org, name="m", state={"w": np.zeros(size, np.float32)})
        self.device = FleetDevice(server, org, "device")
        server.create_round(org_id=org, model="m")
        self.assignment = self.device.assignments()[0]
        delta = {"w": np.arange(size, dtype=np.float32)}
        self.body = encode_update(self.device.header(self.assignment), delta)
        address = urlsplit(server.url)
        self.connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        self.connection.connect()
        self.socket = self.connection.sock

    def upload_head(self, **more: str) -> bytes:
        """Return the head of the upload of the update."""
        headers = {
            "Host": "x",
            "Authorization": self.device.http.headers["Authorization"],
            "Content-Type": UPDATE_CONTENT_TYPE,
            "Content-Digest": content_digest(self.body),
            "Content-Length": str(len(self.body)),
            **more,
        }
        lines = [f"{name}: {value}" for name, value in headers.items()]
        first = f"POST /api/v1/training/rounds/{self.assignment['round_id']}/updates HTTP/1.1"
        return "\r\n".join([first, *lines, "", ""]).encode()

    def close(self) -> None:
        """Close all that is open."""
        self.connection.close()
        self.device.http.close()

    def read_answer(self) -> tuple[int, bytes]:
        """Return status and body of the next answer; one that follows at once is lost."""
        with closing(http.client.HTTPResponse(self.socket)) as answer:
            answer.begin()
            return answer.status, answer.read()

    def ask(self) -> tuple[int, bytes]:
        """Ask for something small on the same connection."""
        self.socket.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        return self.read_answer()


@pytest.fixture
def line(server: EmbeddedServer) -> Iterator[Line]:
    with closing(Line(server)) as made:
        yield made


def incoming_folder(server: EmbeddedServer) -> Path:
    """Return where files lie while they are received."""
    return Path(urlsplit(server.plane.settings.blob_url).path, "incoming")


def incoming(server: EmbeddedServer) -> list[Path]:
    """Return the files that are being received."""
    return list(incoming_folder(server).iterdir())


def test_a_file_is_sent_whole_and_the_connection_serves_on(line: Line) -> None:
    path = f"/api/v1/models/{line.assignment['model_id']}/versions/1/download"
    headers = {"Authorization": line.device.http.headers["Authorization"]}

    for _ in range(2):
        line.connection.request("GET", path, headers=headers)
        answer = line.connection.getresponse()
        assert f"sha256:{hashlib.sha256(answer.read()).hexdigest()}" == line.assignment["base_digest"]

    assert line.connection.sock is line.socket


def test_one_who_leaves_during_a_download_troubles_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer(tmp_path) as server, closing(Line(server, size=16_000_000)) as line:
        path = f"/api/v1/models/{line.assignment['model_id']}/versions/1/download"
        authorization = line.device.http.headers["Authorization"]
        line.connection.request("GET", path, headers={"Authorization": authorization})
        assert line.socket.recv(1)

        line.connection.close()

        assert line.device.http.get(f"{server.url}/health").status_code == 200
    # The server has ended, and with it what it did for the one who left.
    assert caplog.text == ""


@pytest.mark.parametrize("step", [1 << 24, 100_003], ids=["at once", "bit by bit"])
def test_an_update_arrives_as_it_was_sent_and_the_connection_serves_on(line: Line, step: int) -> None:
    """Content-Digest would tell if a byte were another one."""
    line.socket.sendall(line.upload_head())
    for start in range(0, len(line.body), step):
        line.socket.sendall(line.body[start : start + step])

    assert line.read_answer()[0] == 201
    assert [line.ask()[0] for _ in range(2)] == [200, 200]


def test_a_request_right_behind_a_body_is_no_part_of_it(line: Line) -> None:
    behind = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    line.socket.sendall(line.upload_head() + line.body + behind)

    with line.socket.makefile("rb") as answers:
        received = answers.read()

    assert received.startswith(b"HTTP/1.1 201 ")
    assert received.count(b"HTTP/1.1 200 ") == 1


def test_a_sender_that_asked_to_close_the_connection_gets_it_closed(line: Line) -> None:
    line.socket.sendall(line.upload_head(Connection="close") + line.body)

    assert line.read_answer()[0] == 201
    assert line.socket.recv(1) == b""


def test_a_sender_that_waits_for_leave_to_send_is_given_it(line: Line) -> None:
    line.socket.sendall(line.upload_head(Expect="100-continue"))
    assert line.socket.recv(64).startswith(b"HTTP/1.1 100 ")

    line.socket.sendall(line.body)

    assert line.read_answer()[0] == 201
    assert line.ask()[0] == 200


def test_a_sender_that_falls_silent_is_told_and_the_rest_is_not_taken_for_a_request(
    server: EmbeddedServer, line: Line
) -> None:
    line.socket.sendall(line.upload_head() + line.body[:1_000_000])

    status, body = line.read_answer()

    assert (status, b"request_timeout" in body) == (408, True)
    assert line.socket.recv(1) == b""
    assert incoming(server) == []


def test_a_sender_reads_why_its_update_is_not_kept_and_is_served_on(
    server: EmbeddedServer, line: Line
) -> None:
    """The disk is full in the middle; what is still to come of the body is passed over."""
    with longest_file(2_000_000):
        line.socket.sendall(line.upload_head() + line.body)
        status, problem = line.read_answer()

    assert status == 507
    assert b"the disk of the control plane is full" in problem
    assert line.ask()[0] == 200
    assert incoming(server) == []


def test_a_sender_that_goes_away_leaves_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with EmbeddedServer(tmp_path) as server, closing(Line(server)) as line:
        received = incoming_folder(server)
        line.socket.sendall(line.upload_head() + line.body[:1_000_000])
        line.socket.shutdown(socket.SHUT_WR)
        assert line.socket.recv(1) == b""  # the server has closed its side

        assert line.device.send(line.assignment["round_id"], line.body).status_code == 201
    # The server has ended, and with it what it did for the one who went away.
    assert list(received.iterdir()) == []
    assert "Traceback" not in caplog.text
