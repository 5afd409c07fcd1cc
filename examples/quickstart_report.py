"""What the quickstart tells: a line a round, a table of the devices, and the same figures as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from edgeml_lightning.federation_history import FederationHistory, FederationRound, ModelKind

__all__ = ["METRIC", "Curve", "comparison_line", "curves_of", "device_table", "round_line", "to_json"]

METRIC = "test_acc"
TITLES = {"fedavg": "FedAvg", "fedprox": "FedProx", "ditto": "Ditto", "fedper": "FedPer"}


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How accurate one model is, round by round, on the held-out digits of every device.

    Attributes:
        strategy: How the devices trained, such as ``ditto``.
        kind: ``global``: one model for all devices. ``personal``: each device's own.
        devices: For each round, the accuracy in [0, 1] on each device's test digits.
        mean: For each round, the mean over devices.
        spread: For each round, the standard deviation over devices.
    """

    strategy: str
    kind: ModelKind
    devices: tuple[Mapping[str, float], ...]
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @property
    def label(self) -> str:
        """Such as ``Ditto personal``."""
        return f"{TITLES.get(self.strategy, self.strategy)} {self.kind}"


def curves_of(history: FederationHistory) -> list[Curve]:
    """Return a curve for the global model and, where the strategy has them, one for the personal models."""
    kinds: tuple[ModelKind, ...] = ("global", "personal")
    return [
        Curve(
            strategy=history.strategy,
            kind=kind,
            devices=tuple(round_.per_device(METRIC, of=kind) for round_ in history),
            mean=tuple(round_.mean(METRIC, of=kind) or 0.0 for round_ in history),
            spread=tuple(round_.spread(METRIC, of=kind) or 0.0 for round_ in history),
        )
        for kind in kinds
        if all(round_.per_device(METRIC, of=kind) for round_ in history)
    ]


def round_line(strategy: str, round_: FederationRound, *, num_rounds: int) -> str:
    """Return one round in one line, which fits into 80 columns."""
    shared, personal = (_percent(round_.mean(METRIC, of=kind)) for kind in ("global", "personal"))
    up_kb, down_kb = round_.num_bytes_sent / 1e3, round_.num_bytes_received / 1e3
    return (
        f"{TITLES.get(strategy, strategy):7s}{round_.round_number:2d}/{num_rounds:<3d}"
        f"{len(round_.participants):2d} devices global {shared} personal {personal}"
        f" up {up_kb:.0f} down {down_kb:.0f} kB {round_.duration_s:4.1f} s"
    )


def device_table(curves: Sequence[Curve], *, labels: Mapping[str, Sequence[int]]) -> Table:
    """Return the last round's accuracies as a table with a line for each device, the mean and the spread.

    Accuracies are percentages; the spread, the standard deviation of percentages, is in percentage points.

    Args:
        curves: One column each.
        labels: Which digits each device holds.
    """
    table = Table(title="Accuracy on each device's held-out digits after the last round")
    table.add_column("device")
    table.add_column("its digits")
    for curve in curves:
        table.add_column(curve.label, justify="right")
    for device, digits in labels.items():
        figures = [_percent(curve.devices[-1].get(device)) for curve in curves]
        table.add_row(device, " ".join(map(str, digits)), *figures)
    table.add_section()
    table.add_row("mean", "", *(_percent(curve.mean[-1]) for curve in curves))
    table.add_row("spread", "in points", *(_points(curve.spread[-1]) for curve in curves))
    return table


def comparison_line(curves: Sequence[Curve]) -> str | None:
    """Return what Ditto's personal models gain over FedAvg's global model, or ``None`` without both."""
    by_name = {(curve.strategy, curve.kind): curve for curve in curves}
    before, after = by_name.get(("fedavg", "global")), by_name.get(("ditto", "personal"))
    if before is None or after is None:
        return None
    gain_points = 100 * (after.mean[-1] - before.mean[-1])
    return (
        f"Ditto's personal models against FedAvg's global model: {gain_points:+.1f} points in the mean over "
        f"devices, spread {_points(after.spread[-1])} instead of {_points(before.spread[-1])} points."
    )


def to_json(curves: Sequence[Curve], histories: Sequence[FederationHistory]) -> dict[str, object]:
    """Return every figure that is printed or drawn, in JSON's own types."""
    return {
        "metric": METRIC,
        "curves": [asdict(curve) for curve in curves],
        "rounds": {
            history.strategy: [
                {
                    "round_number": round_.round_number,
                    "version": round_.version,
                    "participants": list(round_.participants),
                    "num_bytes_sent": round_.num_bytes_sent,
                    "num_bytes_received": round_.num_bytes_received,
                    "duration_s": round(round_.duration_s, 3),
                }
                for round_ in history
            ]
            for history in histories
        },
    }


def _percent(fraction: float | None) -> str:
    return "     -" if fraction is None else f"{100 * fraction:5.1f}%"


def _points(fraction: float) -> str:
    return f"{100 * fraction:.1f}"
