"""A device of the limit over HTTP/1.1: fetches a model, changes it a little, sends what changed."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time

import numpy as np

from benchmarks.round_parts.plain_http_server import read_into
from benchmarks.shapes import num_parameters


def main() -> None:
    """Take part in all rounds; print when each began and when the last one ended."""
    given = json.loads(sys.argv[1])
    model = np.empty(num_parameters(given["size"]), np.float32)
    update = np.empty_like(model)
    marks: list[float] = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", given["server"]["port"])) as connection:
        for number in range(given["num_rounds"]):
            connection.request("GET", f"/versions/{number}")
            answer = connection.getresponse()
            marks.append(time.perf_counter())
            read_into(answer, model)
            np.subtract(model + np.float32(1e-4), model, out=update)
            connection.request("POST", "/updates", body=update.data.cast("B"))
            connection.getresponse().read()
        connection.request("GET", f"/versions/{given['num_rounds']}")
        connection.getresponse().read()
        marks.append(time.perf_counter())
    print(json.dumps({"marks": marks}))


if __name__ == "__main__":
    main()
