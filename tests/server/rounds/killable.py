"""A served control plane in a process of its own, to be stopped or killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx

from edgeml_client.clock import SystemClock

LAUNCHER = """
import os, sys
from edgeml_server.serving import serve_forever
from edgeml_server.settings import Settings

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the log of requests does not belong in our protocol
        serve_forever(Settings(), announce=lambda text: None)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
CLOCK = SystemClock()


class Killable:
    """A served control plane that is killed and started again on the same data.

    A launcher imports the program once and forks a process for each start, so that a start takes
    milliseconds and many kills fit into a test.
    """

    def __init__(self, database_url: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        self._launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER],
            env=os.environ
            | {
                "EDGEML_SERVER_PORT": str(port),
                "EDGEML_SERVER_DATABASE_URL": database_url,
                "EDGEML_SERVER_BLOB_URL": (folder / "blobs").as_uri(),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._process_id = 0

    def start(self) -> None:
        """Start it; it answers in a moment."""
        assert self._launcher.stdin is not None
        self._launcher.stdin.write("start\n")
        self._launcher.stdin.flush()
        self._process_id = int(self._line())

    def wait_until_it_answers(self) -> None:
        """Return once it is up."""
        while True:
            try:
                httpx.get(f"{self.url}/health")
            except httpx.TransportError:
                CLOCK.sleep(0.01)
            else:
                return

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, by default the one that gives no warning, and return once it is gone."""
        os.kill(self._process_id, how)
        assert self._line() == "ended"
        self._process_id = 0

    def close(self) -> None:
        """End it, and the launcher."""
        if self._process_id:
            self.kill()
        self._launcher.communicate()

    def _line(self) -> str:
        assert self._launcher.stdout is not None
        return self._launcher.stdout.readline().strip()
