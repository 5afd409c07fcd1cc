"""What compressing updates costs in accuracy: digits and text, over the bytes that the devices sent.

``make bench-quality`` runs whole federations through the embedded control plane, prints a table for each task
and writes ``results/quality.json`` and the picture in ``docs/images``. ``--short`` takes seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import lightning as L
import torch
from digits import DigitsNet, digits_of_devices

from benchmarks.measuring import machine_facts
from benchmarks.quality_picture import draw
from benchmarks.tables import print_table
from benchmarks.text import ByteModel, text_of_devices
from edgeml_client.schemas import RoundConfig
from edgeml_lightning import FederationHistory
from edgeml_lightning.simulation import simulate
from edgeml_server import EmbeddedServer

_FOLDER: Final = Path(__file__).resolve().parent
_RESULTS: Final = _FOLDER / "results" / "quality.json"
_PICTURE: Final = _FOLDER.parent / "docs" / "images" / "update-quality.png"
_FEEDBACK: Final[Mapping[str, Any]] = {"type": "error_feedback"}

Figures = dict[str, Any]


def _compressed(top_k: float, bits: int, *before: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return (*before, {"type": "sparsification", "top_k": top_k}, {"type": "quantization", "bits": bits})


def _factored(rank: int, bits: int, *before: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return (*before, {"type": "low_rank", "rank": rank}, {"type": "quantization", "bits": bits})


FORMS: Final[Mapping[str, tuple[Mapping[str, Any], ...]]] = {
    "float32": (),
    "top 10 %, 8 bit": _compressed(0.1, 8),
    "top 10 %, 8 bit, error feedback": _compressed(0.1, 8, _FEEDBACK),
    "top 10 %, 4 bit": _compressed(0.1, 4),
    "top 10 %, 4 bit, error feedback": _compressed(0.1, 4, _FEEDBACK),
    "top 1 %, 4 bit": _compressed(0.01, 4),
    "top 1 %, 4 bit, error feedback": _compressed(0.01, 4, _FEEDBACK),
    "rank 2, 4 bit": _factored(2, 4),
    "rank 2, 4 bit, error feedback": _factored(2, 4, _FEEDBACK),
}


@dataclass(frozen=True, slots=True)
class Task:
    """A federation whose rounds differ in the form of the updates only.

    Attributes:
        title: In tables and the picture.
        metric: What the global model is measured by, as the mean over devices.
        unit: Of the metric.
        module_factory: Makes its module.
        make_data: Returns a data module for each device.
        num_rounds: Played with each form.
        seeds: Of the federations; figures are the means over them.
        trainer_options: For the devices' trainers.
    """

    title: str
    metric: str
    unit: str
    module_factory: Callable[[], L.LightningModule]
    make_data: Callable[[int], Sequence[L.LightningDataModule]]
    num_rounds: int
    seeds: tuple[int, ...]
    trainer_options: Mapping[str, Any]


def tasks(*, is_short: bool) -> dict[str, Task]:
    """Return what is federated: the quickstart's digits, and text."""
    return {
        "digits": Task(
            title="Digits, a convolutional network",
            metric="test_acc",
            unit="accuracy",
            module_factory=partial(DigitsNet, learning_rate=0.2),
            make_data=lambda seed: digits_of_devices(3 if is_short else 10, seed=seed),
            num_rounds=2 if is_short else 30,
            seeds=(0,) if is_short else (0, 1),
            trainer_options={"max_epochs": 1 if is_short else 2, "accelerator": "cpu"},
        ),
        "text": Task(
            title="Text, a byte-level transformer",
            metric="test_loss",
            unit="loss (nats per byte)",
            module_factory=partial(ByteModel, width=16, num_layers=1) if is_short else ByteModel,
            make_data=lambda _: text_of_devices(2 if is_short else 5, num_batches=2 if is_short else 15),
            num_rounds=2 if is_short else 30,
            seeds=(0,),
            trainer_options={"max_epochs": 1, "accelerator": "cpu"},
        ),
    }


def run(task: Task, filters: Sequence[Mapping[str, Any]], *, server: EmbeddedServer) -> Figures:
    """Return the curve of a task's metric and what one device sent in the mean, by round."""
    histories = [
        simulate(
            task.module_factory,
            task.make_data(seed),
            rounds=task.num_rounds,
            config=RoundConfig.model_validate({"filters": list(filters)}),
            seed=seed,
            trainer_options=task.trainer_options,
            server=server,
        )
        for seed in task.seeds
    ]
    num_parameters = sum(parameter.numel() for parameter in task.module_factory().parameters())
    sent = _mean_over(histories, lambda round_: round_.num_bytes_sent / len(round_.participants))
    return {
        "metric": _mean_over(histories, lambda round_: round_.mean(task.metric, of="global")),
        "bytes_sent_per_device": sent,
        "bytes_per_parameter": sum(sent) / len(sent) / num_parameters,
    }


def _mean_over(histories: Sequence[FederationHistory], figure: Callable[[Any], Any]) -> list[float]:
    of_rounds = zip(*([figure(round_) for round_ in history] for history in histories), strict=True)
    return [sum(figures) / len(figures) for figures in of_rounds]


def show(task: Task, results: Mapping[str, Figures]) -> None:
    """Print the table of one task."""
    reference = results["float32"]
    print_table(
        f"{task.title}: {task.unit} of the global model after {task.num_rounds} rounds",
        ("", "last", "half way", "bytes/param", "times smaller"),
        (
            [
                form,
                f"{figures['metric'][-1]:.3f}",
                f"{figures['metric'][task.num_rounds // 2 - 1]:.3f}",
                f"{figures['bytes_per_parameter']:.3f}",
                f"{reference['bytes_per_parameter'] / figures['bytes_per_parameter']:.1f}",
            ]
            for form, figures in results.items()
        ),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="two rounds of tiny federations: seconds")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="where the figures go (JSON)")
    parser.add_argument("--picture", type=Path, default=_PICTURE, help="where the picture goes (PNG)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    chosen = tasks(is_short=given.short)
    results: dict[str, dict[str, Figures]] = {}
    with EmbeddedServer() as server:
        for name, task in chosen.items():
            results[name] = {}
            for form, filters in FORMS.items():
                print(f"training: {task.title}, {form}", flush=True)
                results[name][form] = run(task, filters, server=server)
            show(task, results[name])
    draw({chosen[name].title: (chosen[name].unit, curves) for name, curves in results.items()}, given.picture)
    facts = {"machine": machine_facts("torch", "lightning", "numpy")}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(facts | results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
