"""The quickstart's picture: accuracy over the rounds, and every device after the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from quickstart_report import Curve

__all__ = ["draw"]

# From the palette of Okabe and Ito, whose colours stay apart for every kind of colour vision and in grey.
# Blues are shared models, reds personal ones; the dash and the marker say the same once more.
LOOKS = {
    "global": (("#0072B2", "-", "o"), ("#56B4E9", (0, (3, 2)), "s"), ("#009E73", (0, (1, 1)), "D")),
    "personal": (("#D55E00", "-", "^"), ("#CC79A7", (0, (3, 2)), "v"), ("#E69F00", (0, (1, 1)), "P")),
}
GREY = "#666666"
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "xtick.color": GREY,
    "ytick.color": GREY,
}


@dataclass(frozen=True)
class _Look:
    colour: str
    dash: object
    marker: str


def draw(curves: Sequence[Curve], path: Path, *, title: str) -> None:
    """Write the picture of ``curves`` to ``path`` as PNG."""
    looks = _looks(curves)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 5.2), layout="constrained")
        FigureCanvasAgg(figure)
        over_rounds, devices = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
        _draw_rounds(over_rounds, curves, looks)
        _draw_devices(devices, curves, looks)
        figure.suptitle(title, x=0.008, ha="left", fontsize=13, fontweight="bold")
        figure.savefig(path, dpi=150)


def _looks(curves: Sequence[Curve]) -> list[_Look]:
    """Give each curve a look of its kind."""
    left = {kind: iter(looks) for kind, looks in LOOKS.items()}
    return [_Look(*next(left[curve.kind])) for curve in curves]


def _draw_rounds(axes: Axes, curves: Sequence[Curve], looks: Sequence[_Look]) -> None:
    drawn: list[tuple[float, ...]] = []
    for curve, look in zip(curves, looks, strict=True):
        rounds = range(1, len(curve.mean) + 1)
        coincides = curve.mean in drawn
        label = f"{curve.label} (the same line)" if coincides else curve.label
        axes.plot(rounds, curve.mean, color=look.colour, linestyle=look.dash, linewidth=2.2, label=label)
        if not coincides:
            low = [max(0.0, m - s) for m, s in zip(curve.mean, curve.spread, strict=True)]
            high = [min(1.0, m + s) for m, s in zip(curve.mean, curve.spread, strict=True)]
            axes.fill_between(rounds, low, high, color=look.colour, alpha=0.14, linewidth=0)
        drawn.append(curve.mean)
    axes.set_title("Mean over devices; shaded: one standard deviation", color=GREY)
    axes.set_xlabel("round")
    axes.set_ylabel("accuracy on held-out digits")
    axes.set_ylim(0, 1.03)
    axes.set_xlim(1, max(2, *(len(curve.mean) for curve in curves)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", frameon=False)


def _draw_devices(axes: Axes, curves: Sequence[Curve], looks: Sequence[_Look]) -> None:
    places = range(len(curves))
    spots = [_side_by_side(curve.devices[-1]) for curve in curves]
    for device in curves[0].devices[-1]:
        across = [place + spots[place][device] for place in places if device in spots[place]]
        up = [curve.devices[-1][device] for curve in curves if device in curve.devices[-1]]
        axes.plot(across, up, color="#bbbbbb", linewidth=0.8, zorder=1)
    for place, curve, look in zip(places, curves, looks, strict=True):
        final = curve.devices[-1]
        across = [place + spots[place][device] for device in final]
        axes.scatter(across, list(final.values()), s=34, color=look.colour, marker=look.marker, zorder=3)
        axes.hlines(
            curve.mean[-1], place - 0.22, place + 0.22, color=look.colour, linewidth=3, alpha=0.55, zorder=2
        )
        note = f"{100 * curve.mean[-1]:.1f}% ± {100 * curve.spread[-1]:.1f}"
        axes.annotate(note, (place, 0.02), ha="center", fontweight="bold")
    axes.set_title("Each device after the last round", color=GREY)
    axes.set_xticks(list(places), [curve.label.replace(" ", "\n") for curve in curves])
    axes.set_xlim(-0.5, len(curves) - 0.5)
    axes.tick_params(axis="x", length=0, labelcolor="black")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _side_by_side(figures: Mapping[str, float]) -> dict[str, float]:
    """Return how far to move each point aside, so that devices with equal figures do not hide each other."""
    groups: dict[float, list[str]] = {}
    for device, figure in figures.items():
        groups.setdefault(round(figure, 2), []).append(device)
    return {
        device: 0.07 * (number - (len(group) - 1) / 2)
        for group in groups.values()
        for number, device in enumerate(group)
    }
