"""A device that runs the published edgeml-sdk against our control plane; it knows no long poll."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from typing import Any

from edgeml.federated_client import FederatedClient

_POLL_S = 0.05


def _access_token(server: dict[str, Any], number: int) -> str:
    body = {"org_id": server["org_id"], "device_identifier": f"device-{number}", "scopes": ["devices:write"]}
    request = urllib.request.Request(  # noqa: S310 - our own address on the loopback
        f"{server['api_base']}/device-auth/bootstrap",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {server['tokens'][number]}"},
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
        token: str = json.load(answer)["access_token"]
    return token


def _next_round(client: FederatedClient, pause: threading.Event) -> str:
    while (assignment := client.get_round_assignment()) is None:
        pause.wait(_POLL_S)
    round_id: str = assignment["round_id"]
    return round_id


def main() -> None:
    """Take part in all rounds; print when each began and when the last one ended."""
    given = json.loads(sys.argv[1])
    server, number = given["server"], given["number"]
    token = _access_token(server, number)
    client = FederatedClient(
        auth_token_provider=lambda: token,
        org_id=server["org_id"],
        api_base=server["api_base"],
        device_identifier=f"device-{number}",
    )
    client.api.timeout = 120
    pause = threading.Event()
    marks: list[float] = []
    for _ in range(given["num_rounds"]):
        round_id = _next_round(client, pause)
        marks.append(time.perf_counter())
        client.participate_in_round(
            round_id, lambda state: ({name: value + 1e-4 for name, value in state.items()}, 10, {})
        )
    while client.get_round_status(round_id)["state"] not in ("completed", "abandoned"):
        pause.wait(_POLL_S)
    marks.append(time.perf_counter())
    print(json.dumps({"marks": marks}))


if __name__ == "__main__":
    main()
