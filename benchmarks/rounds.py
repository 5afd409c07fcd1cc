"""Whole rounds without training: a server process, one process per device, real sockets between them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.measuring import spread
from benchmarks.peers import PEERS, Absent, ensure
from benchmarks.processes import MeasurementError, leaving_nothing, measure

__all__ = ["OUR_SERVER", "PARTS", "RoundSystem", "peer_rounds", "rounds_of"]

PARTS: Final = "benchmarks.round_parts"
OUR_SERVER: Final = f"{PARTS}.our_server"

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


_PEER_ROUNDS: Final = {
    "edgeml-sdk 1.0.0 on our server": ("edgeml-sdk", OUR_SERVER, "edgeml_sdk_device"),
    "Flower 1.41.0, simulation (no sockets)": ("flower", None, "flower_simulation"),
    "NVFlare 2.9.0, simulation (waits)": ("nvflare", None, "nvflare_simulation"),
    "NVFlare 2.9.0, its Lightning client (waits)": ("nvflare", None, "nvflare_lightning_simulation"),
}


def peer_rounds(*devices: str) -> Iterator[tuple[str, RoundSystem | str]]:
    """Yield title and system of the peers' whole rounds, or why one cannot be measured.

    Args:
        devices: The modules of their devices, in :data:`PARTS`.
    """
    for title, (peer, server, device) in _PEER_ROUNDS.items():
        if device not in devices:
            continue
        state = ensure(PEERS[peer])
        if isinstance(state, Absent):
            yield title, f"not installed: {state.reason}"
        else:
            yield title, RoundSystem(server, f"{PARTS}.{device}", python=state.python)


def rounds_of(system: RoundSystem | str, *, size: str, num_devices: int, num_rounds: int) -> dict[str, Any]:
    """Return the seconds of a steady round, of the first one, and the server's peak memory; or what failed.

    A round lasts from the moment the first device knows of it until the first device knows of the next one.
    The first round is left out of the steady ones: connections open and memory is taken in it.

    Args:
        system: What is measured; a text says why it cannot be.
        size: Of the model.
        num_devices: All of them take part in every round.
        num_rounds: Of the series, the first one included.
    """
    if isinstance(system, str):
        return {"absent": system}
    task = {
        "size": size,
        "num_devices": num_devices,
        "num_rounds": num_rounds,
        "filters": [*system.filters],
        "is_synced": system.is_synced,
    }
    try:
        with leaving_nothing() as environment:
            return _measured(system, task, environment)
    except MeasurementError as exc:
        return {"absent": f"failed: {exc}"}


def _measured(system: RoundSystem, task: dict[str, Any], environment: dict[str, str]) -> dict[str, Any]:
    if system.server is None:
        answer = measure(
            system.device,
            [json.dumps(task)],
            python=system.python,
            timeout_s=_TIMEOUT_S,
            environment=environment,
        )
        return _summary([answer["marks"]])
    with ExitStack() as stack:
        server = _start(stack, Path(sys.executable), system.server, task, environment)
        opening = server.read()
        devices = [
            _start(stack, system.python, system.device, task | {"server": opening, "number": n}, environment)
            for n in range(task["num_devices"])
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


def _start(
    stack: ExitStack, python: Path, module: str, task: dict[str, Any], environment: dict[str, str]
) -> _Running:
    errors = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115 - the stack closes it
    process = stack.enter_context(
        subprocess.Popen(
            [str(python), "-m", module, json.dumps(task)],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    )
    stack.callback(process.kill)
    return _Running(process, errors)
