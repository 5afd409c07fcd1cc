"""Running measurements in processes of their own, each in the environment of what it measures."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["MeasurementError", "leaving_nothing", "measure", "measuring_environment"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_QUIET: Final = {
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "EDGEML_TOKEN_STORAGE": "memory",
}

_LOOK_FOR_S: Final = 0.5


class MeasurementError(RuntimeError):
    """A measuring process failed; the message is the last it said."""


def measuring_environment() -> dict[str, str]:
    """Return an environment in which all libraries use as many threads as the parent was told, or one."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    fixed = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return inherited | fixed | _QUIET | {"PYTHONWARNINGS": "ignore"}


@contextlib.contextmanager
def leaving_nothing() -> Iterator[dict[str, str]]:
    """Yield an environment for processes of which nothing is left at the end, whatever happened to them.

    Temporary files go to a folder that is removed. What still runs then in this environment is killed: the
    processes of peers start others, in sessions of their own, which outlive the one that was started here.
    """
    with tempfile.TemporaryDirectory(prefix="edgeml-bench-") as folder:
        try:
            yield measuring_environment() | {"TMPDIR": folder}
        finally:
            _kill_all_with(f"TMPDIR={folder}".encode())


def _kill_all_with(variable: bytes) -> None:
    """Kill until none was found for a while: one that is about to run another program shows no variables."""
    found_s = time.monotonic()
    while time.monotonic() - found_s < _LOOK_FOR_S:
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile, or is somebody else's
                if variable in (process / "environ").read_bytes().split(b"\0"):
                    _kill(int(process.name))
                    found_s = time.monotonic()


def _kill(process_id: int) -> None:
    descriptor = os.pidfd_open(process_id)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        ended.poll()
    finally:
        os.close(descriptor)


def measure(
    module: str,
    arguments: Sequence[str],
    *,
    python: str | Path = sys.executable,
    timeout_s: float = 900,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run ``python -m module arguments`` from the repository's root; return the JSON of its last line.

    Args:
        module: What to run.
        arguments: Of its command line.
        python: The interpreter.
        timeout_s: The process is killed after so many seconds.
        environment: ``None`` is :func:`measuring_environment`.

    Raises:
        MeasurementError: It failed, took longer than ``timeout_s`` seconds, or printed no JSON.
    """
    try:
        done = subprocess.run(
            [str(python), "-m", module, *arguments],
            cwd=_ROOT,
            env=measuring_environment() if environment is None else environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as exc:
        raise MeasurementError(f"no result after {timeout_s:.0f} s") from exc
    if done.returncode != 0:
        raise MeasurementError(_last_line(done.stderr)[:300] or f"exit code {done.returncode}")
    try:
        result: dict[str, Any] = json.loads(_last_line(done.stdout))
    except ValueError as exc:
        raise MeasurementError(f"no JSON but {_last_line(done.stdout)[:300]!r}") from exc
    return result


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
