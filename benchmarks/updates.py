"""What an update costs: making it, summing it, and a whole round; ours, the peers and the limits.

``make bench-updates`` runs it in full: it prints three tables and writes ``results/updates.json``.
``python -m benchmarks.updates --short`` takes seconds, on a tiny model and without peers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import machine_facts
from benchmarks.peers import PEERS, Absent, Installed, ensure, find
from benchmarks.processes import MeasurementError
from benchmarks.rounds import OUR_SERVER, PARTS, RoundSystem, peer_rounds, rounds_of
from benchmarks.shapes import SIZES, num_parameters
from benchmarks.tables import milliseconds, print_table, ratio
from benchmarks.worker import measure_cases as run_cases

_RESULTS: Final = Path(__file__).resolve().parent / "results" / "updates.json"
_PACKAGES: Final = ("torch", "numpy", "safetensors", "httpx", "fastapi", "uvicorn", "sqlalchemy")

Results = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        size: Of the models.
        repetitions: Timed turns of each case, after one that is thrown away.
        num_updates: How many updates are summed.
        devices: Sizes of the cohorts of whole rounds.
        num_rounds: Rounds in a series; the first is not counted.
        with_peers: Whether the peers are measured.
        in_one_process: Whether the cases share one process, which is quick and spoils the figures of memory.
    """

    size: str
    repetitions: int
    num_updates: int
    devices: tuple[int, ...]
    num_rounds: int
    with_peers: bool
    in_one_process: bool = False


SHORT: Final = Plan("tiny", 1, 3, (2,), 3, with_peers=False, in_one_process=True)


@dataclass(frozen=True, slots=True)
class System:
    """Whose cases: the title in the tables, the suffix of the modules, and the peer they need."""

    title: str
    suffix: str
    peer: str | None = None


_SYSTEMS: Final = {
    "updates": (
        System("limit", "limit"),
        System(PEERS["edgeml-sdk"].title, "edgeml_sdk", "edgeml-sdk"),
        System(PEERS["flower"].title, "flower", "flower"),
        System(PEERS["nvflare"].title, "nvflare", "nvflare"),
        System("ours", "ours"),
    ),
    "stages": (System("ours", "ours"),),
    "aggregation": (
        System("limit", "limit"),
        System(PEERS["flower"].title, "flower", "flower"),
        System(PEERS["nvflare"].title, "nvflare", "nvflare"),
        System("ours", "ours"),
    ),
}


def python_of(peer: str | None, *, install: bool) -> Path | str:
    """Return the interpreter for a system, or why there is none."""
    if peer is None:
        return Path(sys.executable)
    state: Installed | Absent = (ensure if install else find)(PEERS[peer])
    return state.python if isinstance(state, Installed) else f"not installed: {state.reason}"


def measure_cases(kind: str, system: System, plan: Plan) -> Results:
    """Return the figures of one system's cases, or ``{"absent": why}``."""
    python = python_of(system.peer, install=plan.with_peers)
    if isinstance(python, str):
        return {"absent": python}
    arguments: dict[str, Any] = {"size": plan.size}
    if kind == "aggregation":
        arguments["num_updates"] = plan.num_updates
    cases = f"{kind}_{system.suffix}"
    where = None if plan.in_one_process else python
    try:
        result = run_cases(cases, arguments, repetitions=plan.repetitions, python=where)
        weighed = {} if kind == "stages" else result["cases"]
        for name in [*weighed][: 1 if plan.in_one_process else None]:
            weighed[name].update(run_cases(cases, arguments, peak_of=name, python=where))
    except MeasurementError as exc:
        return {"absent": f"failed: {exc}"}
    return result


def all_cases(kind: str, plan: Plan) -> dict[str, Results]:
    """Return the figures of every system for one kind of work."""
    chosen = [system for system in _SYSTEMS[kind] if system.peer is None or plan.with_peers]
    results = {}
    for system in chosen:
        print(f"measuring {kind}: {system.title}", file=sys.stderr, flush=True)
        results[system.title] = measure_cases(kind, system, plan)
    return results


_CODED: Final = (
    {"type": "gradient_clip", "max_norm": 1.0},
    {"type": "sparsification", "top_k": 0.1},
    {"type": "quantization", "bits": 4},
)


_LIMITS: Final = ("limit: raw sockets, no disk", "limit: plain HTTP, no disk")


def round_systems(plan: Plan) -> Iterator[tuple[str, RoundSystem | str]]:
    """Yield title and system of each whole round, or why it cannot be measured."""
    sockets = (f"{PARTS}.raw_server", f"{PARTS}.raw_device")
    http = (f"{PARTS}.plain_http_server", f"{PARTS}.plain_http_device")
    yield from zip(_LIMITS, (RoundSystem(*sockets), RoundSystem(*http)), strict=True)
    yield "raw sockets, and what we sync", RoundSystem(*sockets, is_synced=True)
    yield "ours, dense float32", RoundSystem(OUR_SERVER, f"{PARTS}.our_device")
    yield "ours, clip, top-k 10 %, 4 bit", RoundSystem(OUR_SERVER, f"{PARTS}.our_device", filters=_CODED)
    if plan.with_peers:
        yield from peer_rounds("edgeml_sdk_device", "flower_simulation", "nvflare_simulation")


def all_rounds(plan: Plan) -> dict[str, Results]:
    """Return the figures of whole rounds, by system and by number of devices."""
    results: dict[str, Results] = {}
    for title, system in round_systems(plan):
        results[title] = {}
        for num_devices in plan.devices:
            print(f"measuring rounds: {title}, {num_devices} devices", file=sys.stderr, flush=True)
            results[title][str(num_devices)] = rounds_of(
                system, size=plan.size, num_devices=num_devices, num_rounds=plan.num_rounds
            )
    return results


def _case_rows(systems: dict[str, Results]) -> Iterator[list[str]]:
    for title, result in systems.items():
        if "absent" in result:
            yield [f"{title}: {result['absent']}", *[""] * 4]
            continue
        for name, case in result["cases"].items():
            sent, grown = case["bytes_per_parameter"], case.get("peak_growth_models")
            yield [
                f"{title}: {name}",
                milliseconds(case["seconds"]["median"]),
                ratio(case["times_limit"]),
                f"{sent:.3f}" if sent else "",
                "" if grown is None else f"{grown:.2f}",
            ]


def _times(seconds: float, limit: Results) -> str:
    return "" if "absent" in limit else ratio(seconds / limit["steady_round_s"]["median"])


def _round_rows(results: dict[str, Results]) -> Iterator[list[str]]:
    for title, by_devices in results.items():
        for num_devices, figures in by_devices.items():
            if "absent" in figures:
                yield [f"{title}: {figures['absent']}", num_devices, *[""] * 4]
                continue
            steady_s = figures["steady_round_s"]["median"]
            peak = figures.get("peak_resident_bytes")
            yield [
                title,
                num_devices,
                milliseconds(steady_s),
                *(_times(steady_s, results[limit][num_devices]) for limit in _LIMITS),
                "" if peak is None else f"{peak / 2**20:,.0f} MiB",
            ]


def show(results: Results, plan: Plan) -> None:
    """Print the tables."""
    parameters = f"{num_parameters(plan.size) / 1e6:.1f} million parameters"
    titles = {
        "updates": f"From two state dicts to the bytes that leave, {parameters}",
        "stages": f"Ours, each step alone, {parameters}; the limit is a memory copy of the model",
        "aggregation": f"Summing {plan.num_updates} updates, {parameters}",
    }
    for kind, title in titles.items():
        if kind in results:
            print_table(
                title, ("", "median", "times limit", "bytes/param", "peak, models"), _case_rows(results[kind])
            )
    if "rounds" in results:
        print_table(
            f"A whole round without training, {parameters}",
            ("", "devices", "steady round", "times sockets", "times HTTP", "server's peak"),
            _round_rows(results["rounds"]),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--size", choices=[*SIZES], default="11M", help="of the models (default: %(default)s)"
    )
    parser.add_argument("--repetitions", type=int, default=5, help="timed turns (default: %(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="measure ours and the limits only")
    parser.add_argument(
        "--tables",
        nargs="+",
        choices=[*_SYSTEMS, "rounds"],
        default=[*_SYSTEMS, "rounds"],
        help="what to measure (default: everything)",
    )
    parser.add_argument("--short", action="store_true", help="a tiny model, once, no peers: seconds")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="where the figures go (JSON)")
    given = parser.parse_args(argv)
    plan = (
        SHORT
        if given.short
        else Plan(given.size, given.repetitions, 50, (2, 10), 7, with_peers=not given.no_peers)
    )
    results: Results = {"size": plan.size, "parameters": num_parameters(plan.size)}
    results["machine"] = machine_facts(*_PACKAGES)
    results |= {kind: all_cases(kind, plan) for kind in _SYSTEMS if kind in given.tables}
    if "rounds" in given.tables:
        results["rounds"] = all_rounds(plan)
    show(results, plan)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
