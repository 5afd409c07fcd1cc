"""The quickstart's federations: one for each strategy, all on one control plane."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

import torch
from digits import DigitsData, DigitsNet, digits_of_devices
from quickstart_picture import draw
from quickstart_report import comparison_line, curves_of, device_table, round_line, to_json
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edgeml_lightning import Ditto, FedAvg, FederatedStrategy, FedPer, FedProx
from edgeml_lightning.federation_history import FederationHistory, FederationRound
from edgeml_lightning.simulation import device_name, simulate
from edgeml_server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["run"]

# Chosen on other seeds and on the validation parts of the data, never on the test digits that are shown.
LOCAL_EPOCHS: Final = 2
LEARNING_RATE: Final = 0.2
LAMBDA_DITTO: Final = 0.1
STRATEGIES: Final[dict[str, FederatedStrategy]] = {
    "fedavg": FedAvg(),
    "fedprox": FedProx(proximal_mu=0.1),
    "ditto": Ditto(lambda_ditto=LAMBDA_DITTO),
    "fedper": FedPer(head_layers=["classifier"]),
}


def run(*, strategies: Sequence[str], num_devices: int, num_rounds: int, seed: int, out: Path) -> None:
    """Run a federation for each strategy, print how it goes, and write its results to the folder ``out``."""
    torch.set_num_threads(1)  # the model is so small that threads would only wait for each other
    console = Console()
    data = digits_of_devices(num_devices, seed=seed)
    with EmbeddedServer() as server, _bar(console) as bar:
        console.print(f"Control plane at {server.url}, {num_devices} devices, {num_rounds} rounds")
        histories = [
            _federate(name, data, server=server, bar=bar, num_rounds=num_rounds, seed=seed)
            for name in dict.fromkeys(strategies)
        ]
    _show(histories, data, console=console, out=out)


def _bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description:8s}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rounds"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def _federate(
    name: str, data: list[DigitsData], *, server: EmbeddedServer, bar: Progress, num_rounds: int, seed: int
) -> FederationHistory:
    task = bar.add_task(name, total=num_rounds)

    def show(round_: FederationRound) -> None:
        bar.console.print(round_line(name, round_, num_rounds=num_rounds), highlight=False, soft_wrap=True)
        bar.advance(task)

    return simulate(
        partial(DigitsNet, learning_rate=LEARNING_RATE),
        data,
        strategy=STRATEGIES[name],
        rounds=num_rounds,
        seed=seed,
        server=server,
        trainer_options={"max_epochs": LOCAL_EPOCHS, "accelerator": "cpu", "limit_val_batches": 0},
        on_round=show,
    )


def _show(histories: list[FederationHistory], data: list[DigitsData], *, console: Console, out: Path) -> None:
    curves = [curve for history in histories for curve in curves_of(history)]
    labels = {device_name(index): device.labels for index, device in enumerate(data)}
    console.print(device_table(curves, labels=labels))
    if (comparison := comparison_line(curves)) is not None:
        console.print(comparison, highlight=False, soft_wrap=True)
    settings = {
        "seed": histories[0].seed,
        "num_devices": len(data),
        "num_rounds": len(histories[0]),
        "local_epochs": LOCAL_EPOCHS,
        "learning_rate": LEARNING_RATE,
        "lambda_ditto": LAMBDA_DITTO,
    }
    figures = {"settings": settings, **to_json(curves, histories)}
    (out / "quickstart.json").write_text(json.dumps(figures, indent=2) + "\n")
    title = f"Digits on {len(data)} devices that hold two label shards each"
    draw(curves, out / "quickstart.png", title=title)
    console.print(f"Wrote {out / 'quickstart.png'} and {out / 'quickstart.json'}", highlight=False)
