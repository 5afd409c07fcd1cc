"""``edgeml-server serve`` as its users run it: a process that listens until it is told to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from edgeml_client.clock import SystemClock

COMMAND = (sys.executable, "-c", "from edgeml_server.cli import main; main()", "serve")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(*options: str, database_url: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    process = subprocess.Popen(
        [*COMMAND, "--port", str(port), *options],
        env=os.environ
        | {
            "EDGEML_SERVER_DATABASE_URL": database_url,
            "EDGEML_SERVER_BLOB_URL": (folder / "blobs").as_uri(),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until_ready(url: str, process: subprocess.Popen[str]) -> httpx.Response:
    clock = SystemClock()
    end_s = clock.monotonic_s() + 90
    while clock.monotonic_s() < end_s and process.poll() is None:
        try:
            return httpx.get(f"{url}/ready")
        except httpx.TransportError:
            clock.sleep(0.05)
    pytest.fail(f"did not start: {process.communicate()[0] if process.poll() is not None else 'timed out'}")


def test_it_serves_until_it_is_interrupted_and_says_where(tmp_path: Path) -> None:
    database_url = f"sqlite:///{tmp_path / 'x.db'}"

    with served(database_url=database_url, folder=tmp_path) as (process, url):
        ready = wait_until_ready(url, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)

    assert ready.status_code == 200
    assert url in output
    assert database_url in output
    assert "edgeml_server.access: 200 GET /ready" in output
    assert "Traceback" not in output


def test_a_port_that_is_taken_ends_it_with_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        done = subprocess.run(
            [*COMMAND, "--port", port, "--database-url", f"sqlite:///{tmp_path / 'x.db'}"],
            env=os.environ
            | {"EDGEML_SERVER_BLOB_URL": tmp_path.as_uri(), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    assert done.returncode == 1
    assert f"error: cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.postgres
def test_several_workers_serve_one_database(tmp_path: Path, postgres_url: str) -> None:
    with served("--workers", "2", database_url=postgres_url, folder=tmp_path) as (process, url):
        ready = wait_until_ready(url, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)

    assert ready.status_code == 200
    assert "Traceback" not in output
