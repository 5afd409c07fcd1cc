"""A federation of ten devices learns scikit-learn's digits, once with FedAvg and once with Ditto.

Starts a control plane in this process, enrols the devices with tokens of their own, gives each of them two
label shards of the data, trains for some rounds, and shows how accurate the shared and the personal models
are on each device's held-out digits. Writes quickstart.png and quickstart.json.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Final

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

LAMBDA_DITTO: Final = 0.1
LOCAL_EPOCHS: Final = 2
LEARNING_RATE: Final = 0.2
"""Chosen on other seeds and on the validation parts of the data, never on the test digits shown here."""

STRATEGIES: Final[dict[str, FederatedStrategy]] = {
    "fedavg": FedAvg(),
    "fedprox": FedProx(proximal_mu=0.1),
    "ditto": Ditto(lambda_ditto=LAMBDA_DITTO),
    "fedper": FedPer(head_layers=["classifier"]),
}


def main(arguments: list[str] | None = None) -> None:
    """Run the federations that the command line asks for, and show what came out."""
    options = _parse(arguments)
    torch.set_num_threads(1)  # the model is so small that threads would only wait for each other
    console = Console()
    data = digits_of_devices(options.devices, seed=options.seed)
    with EmbeddedServer() as server, _bar(console) as bar:
        console.print(f"Control plane at {server.url}, {options.devices} devices, {options.rounds} rounds")
        histories = [
            _federate(name, data, server=server, bar=bar, rounds=options.rounds, seed=options.seed)
            for name in dict.fromkeys(options.strategy)
        ]
    _show(histories, data, console=console, out=options.out)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--rounds", type=_at_least_one, default=15, help="rounds of each federation")
    parser.add_argument("--devices", type=_at_least_one, default=10, help="devices in each federation")
    parser.add_argument(
        "--strategy",
        nargs="+",
        choices=list(STRATEGIES),
        default=["fedavg", "ditto"],
        help="how devices train; a federation for each",
    )
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same figures")
    parser.add_argument(
        "--out", type=Path, default=Path("quickstart-out"), help="folder for picture and figures"
    )
    return parser.parse_args(arguments)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


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
    name: str, data: list[DigitsData], *, server: EmbeddedServer, bar: Progress, rounds: int, seed: int
) -> FederationHistory:
    task = bar.add_task(name, total=rounds)

    def show(round_: FederationRound) -> None:
        bar.console.print(round_line(name, round_, num_rounds=rounds), highlight=False, soft_wrap=True)
        bar.advance(task)

    return simulate(
        partial(DigitsNet, learning_rate=LEARNING_RATE),
        data,
        strategy=STRATEGIES[name],
        rounds=rounds,
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
    out.mkdir(parents=True, exist_ok=True)
    figures = to_json(curves, histories)
    (out / "quickstart.json").write_text(json.dumps(figures, indent=2) + "\n")
    title = f"Digits on {len(data)} devices that hold two label shards each"
    draw(curves, out / "quickstart.png", title=title)
    console.print(f"Wrote {out / 'quickstart.png'} and {out / 'quickstart.json'}", highlight=False)


if __name__ == "__main__":
    main()
