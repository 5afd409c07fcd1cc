"""Personalization on twenty devices that hold few digits each: accuracy, and how unequal the devices are.

Each device holds two label shards of scikit-learn's digits. FedAvg, purely local training, FedPer and Ditto
are compared on the devices' own held-out digits; then once more with random labels on every second device,
where only the devices with true labels count. FedAvg and local training are the two models of Ditto with
lambda = 0: its shared one trains as FedAvg's does, its personal one as if there were no federation.
"""

from __future__ import annotations

import argparse
import statistics
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from edgeml_lightning import FederatedStrategy
    from edgeml_lightning.federation_history import FederationHistory, FederationRound, ModelKind

LAMBDA: Final = 0.05
LOCAL_EPOCHS: Final = 2
BATCH_SIZE: Final = 16
LEARNING_RATE: Final = 0.3
"""Batches of 16 at this rate bring FedAvg in 20 rounds to where batches of 32 at 0.2 arrive after 60."""

ROW: Final = "{:24s}{:>10s}{:>8s}"


def main(arguments: list[str] | None = None) -> None:
    """Run the federations and print the tables."""
    options = _parse(arguments)
    for title, with_random in (
        ("true labels on all devices", False),
        ("random labels on half of them", True),
    ):
        noisy = range(1, options.devices, 2) if with_random else range(0)
        print(f"\n{options.devices} devices, {options.rounds} rounds, {title}", flush=True)
        print(ROW.format("", "accuracy", "spread"), flush=True)
        honest = [number for number in range(options.devices) if number not in noisy]
        _print_table(options, noisy=noisy, honest=honest)


def _print_table(options: argparse.Namespace, *, noisy: range, honest: list[int]) -> None:
    from edgeml_lightning import Ditto, FedPer  # noqa: PLC0415 - late, so that --help answers at once

    strategies = {"": Ditto(0.0), "FedPer": FedPer(["classifier"]), f"Ditto, lambda {LAMBDA}": Ditto(LAMBDA)}
    for name, strategy in strategies.items():
        last = _federate(options, strategy, noisy=noisy)[-1]
        if not name:
            _print_row("FedAvg", last, honest, kind="global")
        _print_row(name or "local only", last, honest, kind="personal")


def _federate(options: argparse.Namespace, strategy: FederatedStrategy, *, noisy: range) -> FederationHistory:
    import torch  # noqa: PLC0415 - as above
    from digits import DigitsNet, digits_of_devices  # noqa: PLC0415 - as above

    from edgeml_lightning.simulation import simulate  # noqa: PLC0415 - as above

    torch.set_num_threads(1)  # the model is so small that threads would only wait for each other
    return simulate(
        lambda: DigitsNet(LEARNING_RATE),
        digits_of_devices(options.devices, seed=options.seed, batch_size=BATCH_SIZE, random_labels_on=noisy),
        strategy=strategy,
        rounds=options.rounds,
        seed=options.seed,
        trainer_options={"max_epochs": LOCAL_EPOCHS, "accelerator": "cpu", "limit_val_batches": 0},
    )


def _print_row(name: str, last: FederationRound, honest: list[int], *, kind: ModelKind) -> None:
    figures = [last.devices[number].metrics(kind)["test_acc"] for number in honest]
    accuracy, spread = statistics.fmean(figures), statistics.pstdev(figures)
    print(ROW.format(name, f"{accuracy:.3f}", f"{spread:.3f}"), flush=True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=20, help="devices in each federation")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each federation")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
