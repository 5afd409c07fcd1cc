"""Time and memory of a call, measured so that the figures of a busy machine can still be compared.

Runs in the environments of the peers too, so it needs the standard library alone.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = [
    "interleave",
    "least_ratio",
    "machine_facts",
    "median_ratio",
    "peak_growth_bytes",
    "peak_resident_bytes",
    "spread",
    "timed",
]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the wall-clock seconds of a call, and what it returned."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def interleave(
    cases: Mapping[str, Callable[[], Any]],
    *,
    repetitions: int,
    reference: Callable[[], Any] | None = None,
    is_cold: bool = False,
) -> dict[str, list[tuple[float, float]]]:
    """Return, for each case, one pair per repetition: its seconds, and those of the reference just before.

    The cases take turns, so that a slow second of the machine falls on all of them and not on one. A first
    turn, in which caches fill and threads start, is thrown away.

    Args:
        cases: What is timed.
        repetitions: Turns that count.
        reference: What each case is held against.
        is_cold: Give free memory back to the system before each call, as it is when something happens once in
            a round. Otherwise what one case freed makes the next one cheaper.
    """
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(repetitions + 1):
        gc.collect()
        for name, case in cases.items():
            reference_s = _timed_from(reference, is_cold=is_cold) if reference is not None else 0.0
            case_s = _timed_from(case, is_cold=is_cold)
            if turn:
                pairs[name].append((case_s, reference_s))
    return pairs


def _timed_from(call: Callable[[], Any], *, is_cold: bool) -> float:
    if is_cold:
        ctypes.CDLL(None).malloc_trim(0)
    seconds, _ = timed(call)
    return seconds


def median_ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """Return the median of the ratios of seconds to the reference's seconds, each from the same turn."""
    return statistics.median(case_s / reference_s for case_s, reference_s in pairs)


def least_ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the least seconds over the least of the reference: what is left without disturbance."""
    return min(case_s for case_s, _ in pairs) / min(reference_s for _, reference_s in pairs)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return median, least, largest and number of some figures, for the results file."""
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        "repetitions": len(ordered),
    }


def peak_growth_bytes(call: Callable[[], Any]) -> tuple[int, Any]:
    """Return by how much a call raised the resident memory of this process at its peak, and its result.

    The kernel's own high-water mark is reset before the call (``/proc/self/clear_refs``), so a short peak
    counts; Linux only. Run it once per process: what an earlier call left to the allocator would hide growth.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status_bytes("VmRSS")
    result = call()
    return max(0, _status_bytes("VmHWM") - before), result


def peak_resident_bytes() -> int:
    """Return the most memory this process ever held resident."""
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return 0


def machine_facts(*packages: str) -> dict[str, Any]:
    """Return what the figures depend on: cores, threads, load and versions; no names and no paths."""
    return {
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": sys.platform,
        "versions": {name: found for name in packages if (found := _version_of(name))},
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
