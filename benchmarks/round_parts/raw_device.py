"""A device of the limit: receives a model, changes it a little, sends what changed, synced if asked for."""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.round_parts.raw_server import receive_into, store
from benchmarks.shapes import num_parameters


def main() -> None:
    """Take part in all rounds; print when each began and when the last one ended."""
    given = json.loads(sys.argv[1])
    model = np.empty(num_parameters(given["size"]), np.float32)
    update = np.empty_like(model)
    marks: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder,
        socket.create_connection(("127.0.0.1", given["server"]["port"])) as connection,
    ):
        for _ in range(given["num_rounds"]):
            first = memoryview(bytearray(1))
            receive_into(connection, first)
            marks.append(time.perf_counter())
            bytes_of_model = model.data.cast("B")
            bytes_of_model[:1] = first
            receive_into(connection, bytes_of_model[1:])
            np.subtract(model + np.float32(1e-4), model, out=update)
            if given["is_synced"]:
                store(Path(folder, "update"), update)
            connection.sendall(update.data.cast("B"))
        receive_into(connection, memoryview(bytearray(1)))
        marks.append(time.perf_counter())
    print(json.dumps({"marks": marks}))


if __name__ == "__main__":
    main()
