"""Our embedded control plane with a series of rounds, on SQLite and local files."""

from __future__ import annotations

import json
import sys

from benchmarks.measuring import peak_resident_bytes
from benchmarks.shapes import numpy_state
from edgeml_client.schemas import RoundConfig
from edgeml_server import EmbeddedServer

_ORG = "bench"


def main() -> None:
    """Serve until a line arrives; say how to enrol at the start, and how much memory it took at the end."""
    given = json.loads(sys.argv[1])
    with EmbeddedServer() as server:
        server.register_model(org_id=_ORG, name="model", state=numpy_state(given["size"]))
        tokens = [server.create_bootstrap_token(org_id=_ORG) for _ in range(given["num_devices"])]
        server.create_round(
            org_id=_ORG,
            model="model",
            num_rounds=given["num_rounds"],
            min_updates=given["num_devices"],
            cohort_size=given["num_devices"],
            config=RoundConfig(filters=tuple(given["filters"])),
        )
        print(
            json.dumps({"url": server.url, "api_base": server.api_base, "org_id": _ORG, "tokens": tokens}),
            flush=True,
        )
        sys.stdin.readline()
    print(json.dumps({"peak_resident_bytes": peak_resident_bytes()}), flush=True)


if __name__ == "__main__":
    main()
