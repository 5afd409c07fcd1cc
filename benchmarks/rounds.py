"""Whole rounds without training: a server process, one process per device, real sockets between them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.measuring import spread
from benchmarks.processes import MeasurementError, measure, measuring_environment

__all__ = ["RoundSystem", "measure_rounds"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class RoundSystem:
    """What is measured.

    Attributes:
        server: The module that serves; ``None`` if the device module does everything in one process.
        device: The module that each device runs.
        python: The interpreter of the devices.
        filters: What the rounds ask the devices to apply.
        is_synced: Whether the limit writes to the disk too; the others always do.
    """

    server: str | None
    device: str
    python: Path = Path(sys.executable)
    filters: Sequence[dict[str, Any]] = ()
    is_synced: bool = False


def measure_rounds(system: RoundSystem, *, size: str, num_devices: int, num_rounds: int) -> dict[str, Any]:
    """Return the seconds of a steady round, of the first one, and the server's peak memory.

    A round lasts from the moment the first device knows of it until the first device knows of the next one.
    The first round is left out of the steady ones: connections open and memory is taken in it.

    Raises:
        MeasurementError: A process failed.
    """
    task = {
        "size": size,
        "num_devices": num_devices,
        "num_rounds": num_rounds,
        "filters": [*system.filters],
        "is_synced": system.is_synced,
    }
    if system.server is None:
        answer = measure(system.device, [json.dumps(task)], python=system.python, timeout_s=_TIMEOUT_S)
        return _summary([answer["marks"]])
    with ExitStack() as stack:
        server = _start(stack, Path(sys.executable), system.server, task)
        opening = server.read()
        devices = [
            _start(stack, system.python, system.device, {**task, "server": opening, "number": number})
            for number in range(num_devices)
        ]
        marks = [device.read()["marks"] for device in devices]
        server.end()
        return {**_summary(marks), **server.read()}


def _summary(marks: list[list[float]]) -> dict[str, Any]:
    starts = [min(at_once) for at_once in zip(*marks, strict=True)]
    durations = [after - before for before, after in itertools.pairwise(starts)]
    return {"first_round_s": durations[0], "steady_round_s": spread(durations[1:])}


@dataclass(frozen=True, slots=True)
class _Running:
    """A process, and the file that takes what it says on its way down: a pipe could fill up and stop it."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def read(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if line.strip():
            answer: dict[str, Any] = json.loads(line)
            return answer
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines()
        raise MeasurementError(said[-1][:300] if said else f"exit code {self.process.wait()}")

    def end(self) -> None:
        if self.process.stdin:
            self.process.stdin.write("\n")
            self.process.stdin.flush()


def _start(stack: ExitStack, python: Path, module: str, task: dict[str, Any]) -> _Running:
    errors = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - the stack closes it
    process = stack.enter_context(
        subprocess.Popen(
            [str(python), "-m", module, json.dumps(task)],
            cwd=_ROOT,
            env=measuring_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    )
    stack.callback(process.kill)
    return _Running(process, errors)
