"""What a proximal term costs per training step: ours, the peers', autograd's, and the bound of the memory.

``make bench-lightning`` runs it in full: it prints a table for each network and writes
``results/lightning.json``. ``python -m benchmarks.lightning --short`` takes seconds, without peers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.cases.steps_plain import STEPS_PER_RUN
from benchmarks.fit_overhead import measure_overhead
from benchmarks.measuring import machine_facts, spread
from benchmarks.peers import PEERS, Absent, ensure
from benchmarks.processes import MeasurementError, measure
from benchmarks.rounds import peer_rounds, rounds_of
from benchmarks.tables import milliseconds, print_table, ratio
from benchmarks.trainers import measure_trainers
from benchmarks.worker import measure_cases as run_cases

_RESULTS: Final = Path(__file__).resolve().parent / "results" / "lightning.json"
_PACKAGES: Final = ("torch", "lightning", "numpy")

Results = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes:
        networks: Each with its batch size.
        term_network: Whose term is measured alone.
        round_network: What travels in a round whose time outside training is measured.
        round_size: Of the peers' model in such a round.
        num_rounds: Of the peers' in a series; the first is not counted.
        repetitions: Timed turns of each case, after one that is thrown away.
        num_batches: Batches in a fit of a Trainer.
        num_fits: Fits of each case with a Trainer.
        with_peers: Whether the peers are measured.
        in_one_process: Whether everything shares one process, which is quick.
    """

    networks: tuple[tuple[str, int], ...]
    term_network: str
    round_network: str
    round_size: str
    num_rounds: int
    repetitions: int
    num_batches: int
    num_fits: int
    with_peers: bool
    in_one_process: bool = False


SHORT: Final = Plan((("tiny", 4),), "tiny", "tiny", "tiny", 3, 1, 6, 1, with_peers=False, in_one_process=True)

_SYSTEMS: Final = {
    "steps": ((None, "ours"), ("nvflare", "nvflare"), ("fl4health", "fl4health")),
    "terms": ((None, "ours"), ("nvflare", "nvflare")),
}


def measure_cases(kind: str, arguments: dict[str, Any], plan: Plan) -> dict[str, Results]:
    """Return the figures of all systems, by case; a system that is not there has one entry that says why."""
    results: dict[str, Results] = {}
    for peer, suffix in _SYSTEMS[kind]:
        if peer is not None and not plan.with_peers:
            continue
        state = None if peer is None else ensure(PEERS[peer])
        if isinstance(state, Absent):
            results[PEERS[peer or ""].title] = {"absent": f"not installed: {state.reason}"}
            continue
        print(f"measuring {kind}: {suffix} {arguments}", file=sys.stderr, flush=True)
        python = Path(sys.executable) if state is None else state.python
        try:
            answer = run_cases(
                f"{kind}_{suffix}",
                arguments,
                repetitions=plan.repetitions,
                python=None if plan.in_one_process else python,
            )
        except MeasurementError as exc:
            results[suffix] = {"absent": f"failed: {exc}"}
            continue
        for name, case in answer["cases"].items():
            results[name] = {
                "seconds_per_step": {
                    key: value if key == "repetitions" else value / STEPS_PER_RUN
                    for key, value in case["seconds"].items()
                },
                "limit_s_per_step": answer["limit_s"]["median"] / STEPS_PER_RUN,
                "times_limit": case["times_limit"],
                "times_limit_least": case["times_limit_least"],
            }
    return results


def trainers(network: str, batch_size: int, plan: Plan) -> dict[str, Results]:
    """Return the figures of whole Trainer steps, against the plain Trainer's of the same turn."""
    print(f"measuring Trainers: {network}, batch {batch_size}", file=sys.stderr, flush=True)
    task = {
        "network": network,
        "batch_size": batch_size,
        "num_batches": plan.num_batches,
        "repetitions": plan.num_fits,
    }
    try:
        in_here = plan.in_one_process
        seconds = measure_trainers(**task) if in_here else measure("benchmarks.trainers", [json.dumps(task)])
    except MeasurementError as exc:
        return {"Trainer": {"absent": f"failed: {exc}"}}
    plain = seconds["Trainer, plain"]
    return {
        name: {
            "seconds_per_step": spread(values),
            "times_limit": statistics.median(a / b for a, b in zip(values, plain, strict=True)),
            "times_limit_least": min(values) / min(plain),
        }
        for name, values in seconds.items()
    }


def rounds(plan: Plan) -> dict[str, Results]:
    """Return the seconds of a fit outside its batches, with a federated round and without."""
    print(f"measuring what is outside training: {plan.round_network}", file=sys.stderr, flush=True)
    task = {"network": plan.round_network, "repetitions": plan.num_fits}
    try:
        in_here = plan.in_one_process
        seconds = (
            measure_overhead(**task) if in_here else measure("benchmarks.fit_overhead", [json.dumps(task)])
        )
    except MeasurementError as exc:
        return {"Trainer": {"absent": f"failed: {exc}"}}
    return {name: {"seconds": spread(values)} for name, values in seconds.items()}


def rounds_of_peers(plan: Plan) -> dict[str, Results]:
    """Return the seconds of the peers' rounds with one device, without training or outside its batches."""
    results: dict[str, Results] = {}
    for title, system in peer_rounds(
        "flower_simulation", "nvflare_simulation", "nvflare_lightning_simulation"
    ):
        print(f"measuring rounds: {title}, one device", file=sys.stderr, flush=True)
        figures = rounds_of(system, size=plan.round_size, num_devices=1, num_rounds=plan.num_rounds)
        results[title] = figures if "absent" in figures else {"seconds": figures["steady_round_s"]}
    return results


def _round_rows(cases: dict[str, Results]) -> Iterator[list[str]]:
    for name, case in cases.items():
        if "absent" in case:
            yield [f"{name}: {case['absent']}", "", ""]
            continue
        yield [name, milliseconds(case["seconds"]["median"]), milliseconds(case["seconds"]["min"])]


def _rows(cases: dict[str, Results]) -> Iterator[list[str]]:
    for name, case in cases.items():
        if "absent" in case:
            yield [f"{name}: {case['absent']}", "", "", ""]
            continue
        yield [
            name,
            milliseconds(case["seconds_per_step"]["median"]),
            ratio(case["times_limit"]),
            ratio(case["times_limit_least"]),
        ]


def show(results: Results) -> None:
    """Print the tables."""
    headings = ("", "per step", "times {}", "of the least")
    for name, cases in results["steps"].items():
        print_table(
            f"A training step, {name}", [heading.format("plain") for heading in headings], _rows(cases)
        )
    print_table(
        "The proximal term alone, against one pass over parameter, anchor and gradient",
        [heading.format("bound") for heading in headings],
        _rows(results["term"]),
    )
    print_table(
        "A round outside training: download, load, delta, filters, upload, and what any fit takes",
        ["", "per round", "the least"],
        _round_rows(results["round"]),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7, help="timed turns (default: %(default)s)")
    parser.add_argument("--no-peers", action="store_true", help="measure ours only")
    parser.add_argument("--short", action="store_true", help="a tiny network, once, no peers: seconds")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="where the figures go (JSON)")
    given = parser.parse_args(argv)
    full = Plan(
        (("mlp", 8), ("mlp", 32), ("resnet18", 32)),
        "mlp",
        "resnet18",
        "11M",
        7,
        given.repetitions,
        15,
        5,
        with_peers=not given.no_peers,
    )
    plan = SHORT if given.short else full
    results: Results = {"machine": machine_facts(*_PACKAGES), "optimizer": "sgd", "steps": {}}
    for network, batch_size in plan.networks:
        arguments = {"network": network, "batch_size": batch_size, "optimizer": "sgd"}
        results["steps"][f"{network}, batch {batch_size}"] = {
            **measure_cases("steps", arguments, plan),
            **trainers(network, batch_size, plan),
        }
    results["term"] = measure_cases("terms", {"network": plan.term_network}, plan)
    results["round"] = rounds(plan) | (rounds_of_peers(plan) if plan.with_peers else {})
    show(results)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
