"""A whole round of a model of a gigabyte on one device: how much memory it takes, beside the seconds.

``make bench-large-round`` runs it: download, training in place, filters, upload, against an embedded control
plane in a process of its own. It takes some minutes, 6 GB of memory and 10 GB of disk; ``--size 11M`` less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cases.updates_ours import PIPELINES
from benchmarks.measuring import machine_facts, peak_growth_bytes, timed
from benchmarks.processes import measuring_environment
from benchmarks.shapes import SIZES, num_parameters
from benchmarks.tables import print_table
from edgeml_client import DeviceAuthClient, FederatedClient

_RESULTS: Final = Path(__file__).resolve().parent / "results" / "large_round.json"
_ROOT: Final = Path(__file__).resolve().parent.parent
_PATIENCE_S: Final = 900.0
_IDENTIFIER: Final = "device-0"
_FILTERS: Final = {
    "clip, error feedback, top-k 10 %, 4 bit": PIPELINES["clip, error feedback, top-k 10 %, 4 bit"],
    "dense float32": PIPELINES["dense float32"],
}


def train(state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
    """Change the model in place, as an optimizer does."""
    for value in state.values():
        value[...] *= 1.01
    return state, 10, None


def measure_round(size: str, filters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what one round takes on the device, after the model was registered in another process."""
    task = {"size": size, "num_devices": 1, "num_rounds": 1, "filters": [*filters]}
    command = [sys.executable, "-m", "benchmarks.round_parts.our_server", json.dumps(task)]
    with (
        tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder,
        subprocess.Popen(
            command,
            cwd=_ROOT,
            env=measuring_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        opening = json.loads(server.stdout.readline()) if server.stdout else {}
        try:
            return _take_part(opening, folder=folder, num_bytes=4 * num_parameters(size))
        finally:
            server.communicate("\n")


def _take_part(server: dict[str, Any], *, folder: str, num_bytes: int) -> dict[str, Any]:
    auth = DeviceAuthClient(
        base_url=server["url"],
        org_id=server["org_id"],
        device_identifier=_IDENTIFIER,
        token_storage="memory",  # noqa: S106 - where tokens are kept, not one of them
    )
    auth.bootstrap_sync(bootstrap_bearer_token=server["tokens"][0])
    with FederatedClient(
        auth_token_provider=auth.get_access_token_sync,
        org_id=server["org_id"],
        api_base=server["api_base"],
        device_identifier=_IDENTIFIER,
        state_dir=folder,
    ) as client:
        client.register()
        assignment = client.get_round_assignment(wait_s=_PATIENCE_S)
        if assignment is None:
            raise TimeoutError("no round within fifteen minutes")

        def take_part() -> object:
            return client.participate_in_round(
                round_id=assignment.round_id, local_train_fn=train, format="numpy"
            )

        grown, (seconds, _) = peak_growth_bytes(lambda: timed(take_part))
        return {"seconds": seconds, "peak_growth_bytes": grown, "peak_growth_models": grown / num_bytes}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=[*SIZES], default="250M", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="where the figures go (JSON)")
    given = parser.parse_args(argv)
    measure_round("tiny", ())  # what is imported and opened once is no growth of a round
    rounds = {title: measure_round(given.size, filters) for title, filters in _FILTERS.items()}
    print_table(
        f"A whole round on one device, {num_parameters(given.size) / 1e6:.1f} million parameters",
        ("", "seconds", "peak growth, models"),
        (
            [title, f"{row['seconds']:.1f}", f"{row['peak_growth_models']:.2f}"]
            for title, row in rounds.items()
        ),
    )
    results = {"size": given.size, "parameters": num_parameters(given.size), "rounds": rounds}
    results["machine"] = machine_facts("numpy", "httpx")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
