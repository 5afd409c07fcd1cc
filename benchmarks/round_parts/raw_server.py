"""The limit of a round: one flat float32 model over TCP each way, a mean in memory, no checks.

It writes nothing to the disk; or, to see what the disk takes of a round, what must survive a power cut: each
update where it was made and where it was received, and each new version.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import peak_resident_bytes
from benchmarks.shapes import num_parameters

__all__ = ["receive_into", "store"]


def receive_into(connection: socket.socket, buffer: memoryview) -> None:
    """Fill ``buffer`` from a connection.

    Raises:
        ConnectionError: The other side closed it before.
    """
    received = 0
    while received < len(buffer):
        count = connection.recv_into(buffer[received:])
        if not count:
            raise ConnectionError("closed before the end")
        received += count


def store(path: Path, numbers: npt.NDArray[np.float32]) -> None:
    """Write a file and sync it; another one of that name is replaced, as a rename would."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.write(numbers.data.cast("B"))
        file.flush()
        os.fsync(file.fileno())


class _Rounds:
    """Serves every device a model, takes its update, and goes on once all have answered."""

    def __init__(self, *, size: str, num_devices: int, num_rounds: int, folder: Path | None) -> None:
        self._folder = folder
        self._model = np.zeros(num_parameters(size), np.float32)
        self._sum = np.zeros_like(self._model)
        self._num_devices = num_devices
        self._num_rounds = num_rounds
        self._adding = threading.Lock()
        self._all_answered = threading.Barrier(num_devices, action=self._next_version)

    def _next_version(self) -> None:
        np.multiply(self._sum, np.float32(1 / self._num_devices), out=self._sum)
        np.add(self._model, self._sum, out=self._model)
        self._sum[...] = 0
        if self._folder is not None:
            store(self._folder / "version", self._model)

    def serve(self, connection: socket.socket, *, number: int) -> None:
        update = np.empty_like(self._model)
        with connection:
            for _ in range(self._num_rounds):
                connection.sendall(self._model.data.cast("B"))
                receive_into(connection, update.data.cast("B"))
                if self._folder is not None:
                    store(self._folder / f"update-{number}", update)
                with self._adding:
                    np.add(self._sum, update, out=self._sum)
                self._all_answered.wait()
            connection.sendall(b"e")


def main() -> None:
    """Serve all rounds; say where at the start, and how much memory it took at the end."""
    given = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder:
        _serve(
            _Rounds(
                size=given["size"],
                num_devices=given["num_devices"],
                num_rounds=given["num_rounds"],
                folder=Path(folder) if given["is_synced"] else None,
            ),
            num_devices=given["num_devices"],
        )
    sys.stdin.readline()
    print(json.dumps({"peak_resident_bytes": peak_resident_bytes()}), flush=True)


def _serve(rounds: _Rounds, *, num_devices: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        connections = [listener.accept()[0] for _ in range(num_devices)]
    threads = [
        threading.Thread(target=rounds.serve, args=(connection,), kwargs={"number": number})
        for number, connection in enumerate(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
