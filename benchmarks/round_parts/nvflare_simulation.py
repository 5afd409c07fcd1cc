"""NVFlare's simulator with the same rounds: FedAvg, a server, one process per device, sockets between them.

Its processes look once in a while for what there is to do, so that a round has seconds of waiting in it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import torch
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe.sim_env import SimEnv
from torch import nn

from benchmarks.shapes import states

__all__ = ["Shaped", "only_its_answer", "simulate"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_STAMPED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}")
_BOUNDARY = re.compile(r"Round \d+ started|Finished FedAvg")


class Shaped(nn.Module):
    """A module with the arrays of a model; it computes nothing."""

    def __init__(self, size: str) -> None:
        super().__init__()
        base, _ = states(size)
        for name, value in base.items():
            self.register_buffer(name.replace(".", "_"), value)


@contextlib.contextmanager
def only_its_answer() -> Iterator[TextIO]:
    """Yield what was the standard output; what the simulator and its processes print goes with the errors."""
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        yield answer


def simulate(
    *,
    model: str,
    model_arguments: dict[str, Any],
    script: str,
    script_arguments: str = "",
    given: dict[str, Any],
) -> list[str]:
    """Run all rounds; return the lines of the server's log.

    Args:
        model: Module and class of the model.
        model_arguments: Of the class.
        script: What each device runs, in this folder.
        script_arguments: Of its command line.
        given: How many devices and rounds.

    Raises:
        RuntimeError: The rounds did not come to their end; the message is the server's last error.
    """
    os.environ["PYTHONPATH"] = str(_ROOT)  # for the processes of the devices, which start in another folder
    recipe = FedAvgRecipe(
        name="rounds",
        model={"class_path": model, "args": model_arguments},
        min_clients=given["num_devices"],
        num_rounds=given["num_rounds"],
        train_script=str(Path(__file__).with_name(script)),
        train_args=script_arguments,
    )
    num_devices = given["num_devices"]
    with tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder:
        log = Path(folder, "rounds", "server", "log.txt")
        try:
            recipe.execute(SimEnv(num_clients=num_devices, num_threads=num_devices, workspace_root=folder))
        except RuntimeError as exc:
            raise RuntimeError(_last_error(log)) from exc
        if "Finished FedAvg" not in log.read_text(encoding="utf-8"):
            raise RuntimeError(_last_error(log))
        return log.read_text(encoding="utf-8").splitlines()


def _last_error(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    errors = [line for line in lines if " ERROR " in line]
    return errors[-1] if errors else "the server came to no end and named no error"


def boundaries(lines: list[str]) -> list[float]:
    """Return when each round began and when the last one ended, by the server's log.

    What it says of a round stands below a line that begins with the time. Only the differences of these times
    mean something, so that any zone will do.
    """
    marks: list[float] = []
    stamp = ""
    for line in lines:
        if found := _STAMPED.match(line):
            stamp = found[0]
        if _BOUNDARY.search(line):
            marks.append(dt.datetime.strptime(f"{stamp}+0000", "%Y-%m-%d %H:%M:%S,%f%z").timestamp())
    return marks


def main() -> None:
    """Run the simulation; print when each round began and when the last one ended."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    with only_its_answer() as answer:
        lines = simulate(
            model="benchmarks.round_parts.nvflare_simulation.Shaped",
            model_arguments={"size": given["size"]},
            script="nvflare_device.py",
            given=given,
        )
        print(json.dumps({"marks": boundaries(lines)}), file=answer)


if __name__ == "__main__":
    main()
