"""Where a download goes: memory that is told its length before it comes, or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.sinks import FileSink, ReceivedMemory, Sink
from edgeml_client.errors import InvalidResponseError
from edgeml_client.testing import Reply, ScriptedServer
from tests.client.transport.test_downloads import CONTENT, DIGEST, serving


@pytest.mark.parametrize("expected", [0, 3, 100])
def test_it_holds_what_was_written_whether_less_or_more_was_expected(expected: int) -> None:
    memory = ReceivedMemory()

    memory.expect(expected)
    for chunk in (b"abc", b"", b"defgh"):
        memory.write(chunk)

    assert memory.view() == b"abcdefgh"
    assert memory.view().readonly


def test_what_is_expected_later_does_not_take_away_what_came() -> None:
    memory = ReceivedMemory()
    memory.write(b"abc")

    memory.expect(1_000)

    assert memory.view() == b"abc"


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_was_forgotten_does_not_come_again(tmp_path: Path, kind: str) -> None:
    memory = ReceivedMemory()
    with (tmp_path / "file").open("w+b") as file:
        sink: Sink = memory if kind == "memory" else FileSink(file)
        sink.write(b"abcdef")

        sink.clear()
        sink.write(b"xy")

        file.seek(0)
        assert (memory.view() if kind == "memory" else file.read()) == b"xy"


@pytest.mark.parametrize("num_bytes", [2**50, 2**63])
def test_room_that_no_machine_has_is_not_there(num_bytes: int) -> None:
    """2^50 bytes are more than a process has addresses for, and 2^63 more than NumPy has numbers for."""
    with pytest.raises(MemoryError):
        ReceivedMemory().expect(num_bytes)


def test_content_that_breaks_off_and_changes_leaves_nothing_of_the_old(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    old, new = serving(b"a" * 300_000, etag='"v1"', cuts=[120_000]), serving(CONTENT, etag='"v2"')
    server.on("GET", "/file", old, new)
    memory = ReceivedMemory()

    download = transport.download("/file", into=memory)

    assert (download.data, download.num_bytes, download.digest) == (b"", 200_000, DIGEST)
    assert memory.view() == CONTENT


def test_a_length_for_which_there_is_no_memory_is_refused_before_it_comes(
    server: ScriptedServer, transport: HttpTransport
) -> None:
    """2^50 bytes are more than a process has addresses for."""
    place = {"Content-Range": f"bytes 0-0/{2**50}"}
    server.on("GET", "/file", lambda _: Reply(status=206, body=b"x", headers=place))

    with pytest.raises(InvalidResponseError, match="announces 1125899906842624 bytes"):
        transport.download("/file", into=ReceivedMemory())
