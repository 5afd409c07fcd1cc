"""A device of ours: waits for its round, downloads, changes the model a little, submits."""

from __future__ import annotations

import json
import sys
import tempfile
import time

import numpy as np

from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_client.updates import StreamedDelta

_PATIENCE_S = 120.0


def main() -> None:
    """Take part in all rounds; print when each began and when the last one ended."""
    given = json.loads(sys.argv[1])
    server, number = given["server"], given["number"]
    identifier = f"device-{number}"
    auth = DeviceAuthClient(base_url=server["url"], org_id=server["org_id"], device_identifier=identifier)
    auth.bootstrap_sync(bootstrap_bearer_token=server["tokens"][number])
    marks: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder,
        FederatedClient(
            auth_token_provider=auth.get_access_token_sync,
            org_id=server["org_id"],
            api_base=server["api_base"],
            device_identifier=identifier,
            state_dir=folder,
        ) as client,
    ):
        client.register()
        for _ in range(given["num_rounds"]):
            assignment = client.get_round_assignment(wait_s=_PATIENCE_S)
            marks.append(time.perf_counter())
            if assignment is None:
                raise TimeoutError("no round within two minutes")
            device_round = client.join_round(assignment)
            base = device_round.download().state(arrays="numpy")
            updated = {name: value + np.float32(1e-4) for name, value in base.items()}
            device_round.submit(StreamedDelta.between(base, updated), sample_count=10)
            del base, updated
        client.wait_for_round(assignment.round_id, timeout_s=_PATIENCE_S)
        marks.append(time.perf_counter())
    print(json.dumps({"marks": marks}))


if __name__ == "__main__":
    main()
