"""NVFlare's simulator with its Lightning client on one device: the rounds outside the batches of the fits."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.round_parts.nvflare_simulation import only_its_answer, simulate

_NETWORKS = {"tiny": "tiny", "11M": "resnet18"}


def main() -> None:
    """Run the simulation; print when the batches of each round began, by a clock without those before."""
    given = json.loads(sys.argv[1])
    network = _NETWORKS[given["size"]]
    with only_its_answer() as answer, tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder:
        path = Path(folder, "marks.json")
        simulate(
            model="benchmarks.round_parts.nvflare_lightning_device.Plain",
            model_arguments={"network": network},
            script="nvflare_lightning_device.py",
            script_arguments=f"{path} {network}",
            given=given,
        )
        print(json.dumps({"marks": json.loads(path.read_text(encoding="utf-8"))}), file=answer)


if __name__ == "__main__":
    main()
