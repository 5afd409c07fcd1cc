"""Running measurements in processes of their own, each in the environment of what it measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["MeasurementError", "measure", "measuring_environment"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_QUIET: Final = {
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "EDGEML_TOKEN_STORAGE": "memory",
}


class MeasurementError(RuntimeError):
    """A measuring process failed; the message is the last it said."""


def measuring_environment() -> dict[str, str]:
    """Return an environment in which all libraries use as many threads as the parent was told, or one."""
    threads = os.environ.get("OMP_NUM_THREADS", "1")
    fixed = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return inherited | fixed | _QUIET | {"PYTHONWARNINGS": "ignore"}


def measure(
    module: str, arguments: Sequence[str], *, python: str | Path = sys.executable, timeout_s: float = 900
) -> dict[str, Any]:
    """Run ``python -m module arguments`` from the repository's root; return the JSON of its last line.

    Raises:
        MeasurementError: It failed, took longer than ``timeout_s`` seconds, or printed no JSON.
    """
    try:
        done = subprocess.run(
            [str(python), "-m", module, *arguments],
            cwd=_ROOT,
            env=measuring_environment(),
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
