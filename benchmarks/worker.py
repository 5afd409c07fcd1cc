"""Measure the cases of one system, in this process or in one of its own environment.

``python -m benchmarks.worker updates_flower '{"size": "11M"}'`` measures what ``cases(size="11M")`` of
:mod:`benchmarks.cases.updates_flower` returns, and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cases.plain import Cases
from benchmarks.measuring import interleave, least_ratio, median_ratio, peak_growth_bytes, spread
from benchmarks.processes import measure

__all__ = ["measure_cases"]

_SMALLEST: Final = {"size": "tiny", "num_updates": 2}


def times(subject: Cases, *, repetitions: int) -> dict[str, Any]:
    """Return seconds, ratio to the limit, and bytes for each case."""
    sent = {name: call() for name, call in subject.calls.items()}
    pairs = interleave(
        subject.calls, repetitions=repetitions, reference=subject.limit, is_cold=subject.is_cold
    )
    return {
        "parameters": subject.num_parameters,
        "limit_s": spread(limit_s for rows in pairs.values() for _, limit_s in rows),
        "cases": {
            name: {
                "seconds": spread(case_s for case_s, _ in rows),
                "times_limit": median_ratio(rows),
                "times_limit_least": least_ratio(rows),
                "num_bytes": sent[name],
                "bytes_per_parameter": sent[name] / subject.num_parameters,
            }
            for name, rows in pairs.items()
        },
    }


def peak(module: Any, arguments: dict[str, Any], *, case: str) -> dict[str, Any]:  # noqa: ANN401 - a module
    """Return the peak growth of one case, in bytes and in models, after a small one has warmed up."""
    smallest = {name: _SMALLEST.get(name, value) for name, value in arguments.items()}
    for given in (smallest, arguments):
        subject: Cases = module.cases(**given)
        with contextlib.closing(subject):
            grown, _ = peak_growth_bytes(subject.for_peak.get(case) or subject.calls[case])
    return {
        "peak_growth_bytes": grown,
        "peak_growth_models": grown / (4 * subject.num_parameters),
    }


def measure_cases(
    cases: str,
    arguments: dict[str, Any],
    *,
    repetitions: int = 0,
    peak_of: str | None = None,
    python: Path | None = None,
) -> dict[str, Any]:
    """Return what :func:`times` returns for a module of cases, or :func:`peak` if ``peak_of`` names a case.

    Args:
        cases: A module of :mod:`benchmarks.cases`.
        arguments: Of its ``cases()``.
        repetitions: Timed turns.
        peak_of: The case whose memory is measured.
        python: The interpreter to measure in; ``None`` is this process.

    Raises:
        MeasurementError: The other process failed.
    """
    if python is not None:
        command = [cases, json.dumps(arguments), "--repetitions", str(repetitions)]
        return measure(
            "benchmarks.worker", [*command, *(["--peak-of", peak_of] if peak_of else [])], python=python
        )
    module = importlib.import_module(f"benchmarks.cases.{cases}")
    if peak_of:
        return peak(module, arguments, case=peak_of)
    with contextlib.closing(module.cases(**arguments)) as subject:
        return times(subject, repetitions=repetitions)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", help="a module of benchmarks.cases")
    parser.add_argument("arguments", type=json.loads, help="JSON of the arguments of its cases()")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--peak-of", metavar="CASE", help="measure the memory of one case instead")
    given = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    print(
        json.dumps(
            measure_cases(given.cases, given.arguments, repetitions=given.repetitions, peak_of=given.peak_of)
        )
    )


if __name__ == "__main__":
    main()
