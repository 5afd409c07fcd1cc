"""The limit of a round over HTTP/1.1: the standard library's server, raw floats each way, no disk, no checks.

``GET /versions/N`` answers once version N is there, ``POST /updates`` takes an update.
"""

from __future__ import annotations

import json
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from benchmarks.measuring import peak_resident_bytes
from benchmarks.round_parts.versions import Versions

__all__ = ["read_into"]


def read_into(source: BufferedIOBase, numbers: npt.NDArray[np.float32]) -> None:
    """Fill an array from the body of a message.

    Raises:
        ConnectionError: The body ended before.
    """
    if source.readinto(numbers.data.cast("B")) != numbers.nbytes:
        raise ConnectionError("closed before the end")


class _Handler(BaseHTTPRequestHandler):
    """One connection of a device, which stays open."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, versions: Versions, num_rounds: int, *args: Any) -> None:  # noqa: ANN401 - socketserver's
        self._versions = versions
        self._num_rounds = num_rounds
        self._update = versions.new_update()
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer with a version; with nothing once all rounds are over."""
        number = int(self.path.rpartition("/")[2])
        version = self._versions.wait_for(number)
        self._answer(version if number < self._num_rounds else memoryview(b""))

    def do_POST(self) -> None:
        """Count an update."""
        read_into(self.rfile, self._update)
        self._versions.add(self._update)
        self._answer(memoryview(b""))

    def _answer(self, body: memoryview) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, *args: object) -> None:
        """Say nothing of each request."""


class _Server(ThreadingHTTPServer):
    """A thread for each connection; all devices may come at once."""

    request_queue_size = 64


def main() -> None:
    """Serve all rounds; say where at the start, and how much memory it took at the end."""
    given = json.loads(sys.argv[1])
    versions = Versions(size=given["size"], num_devices=given["num_devices"])
    with _Server(("127.0.0.1", 0), partial(_Handler, versions, given["num_rounds"])) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        print(json.dumps({"port": server.server_port}), flush=True)
        sys.stdin.readline()
        server.shutdown()
        serving.join()
    print(json.dumps({"peak_resident_bytes": peak_resident_bytes()}), flush=True)


if __name__ == "__main__":
    main()
