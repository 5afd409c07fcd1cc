"""The limit of a round: one flat float32 model over TCP each way, a mean in memory, no checks.

It writes nothing to the disk; or, to see what the disk takes of a round, what must survive a power cut: each
update where it was made and where it was received, and each new version.
"""

from __future__ import annotations

import functools
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
from benchmarks.round_parts.versions import Versions

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


def main() -> None:
    """Serve all rounds; say where at the start, and how much memory it took at the end."""
    given = json.loads(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="edgeml-bench-") as name:
        folder = Path(name) if given["is_synced"] else None
        versions = Versions(
            size=given["size"],
            num_devices=given["num_devices"],
            keep=None if folder is None else functools.partial(store, folder / "version"),
        )
        with socket.create_server(("127.0.0.1", 0)) as listener:
            print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
            connections = [listener.accept()[0] for _ in range(given["num_devices"])]
        threads = [
            threading.Thread(
                target=_serve,
                args=(connection, versions),
                kwargs={
                    "num_rounds": given["num_rounds"],
                    "path": None if folder is None else folder / f"update-{number}",
                },
            )
            for number, connection in enumerate(connections)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sys.stdin.readline()
    print(json.dumps({"peak_resident_bytes": peak_resident_bytes()}), flush=True)


def _serve(connection: socket.socket, versions: Versions, *, num_rounds: int, path: Path | None) -> None:
    update = versions.new_update()
    with connection:
        for number in range(num_rounds):
            connection.sendall(versions.wait_for(number))
            receive_into(connection, update.data.cast("B"))
            if path is not None:
                store(path, update)
            versions.add(update)
        versions.wait_for(num_rounds)
        connection.sendall(b"e")


if __name__ == "__main__":
    main()
