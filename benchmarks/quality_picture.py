"""The picture of what compression costs: each task's metric over the bytes that a device has sent."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["draw"]

# Okabe and Ito's colours, one for each way to compress; a dashed line drops what it does not send.
_COLOURS: Final = {
    "float32": "#000000",
    "8 bit": "#0072B2",
    "4 bit": "#D55E00",
    "top 1 %": "#009E73",
    "rank": "#CC79A7",
}


def draw(tasks: Mapping[str, tuple[str, Mapping[str, Any]]], path: Path) -> None:
    """Write the picture to ``path`` as PNG.

    Args:
        tasks: Titles to the metric's unit and the curves, by the form of the updates.
        path: The file.
    """
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(11.5, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (title, (unit, curves)) in zip(
            figure.subplots(1, len(tasks), squeeze=False)[0], tasks.items(), strict=True
        ):
            _draw_task(axes, curves)
            axes.set_title(title, loc="left")
            axes.set_ylabel(f"{unit} of the global model")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path, dpi=150)


def _draw_task(axes: Axes, curves: Mapping[str, Any]) -> None:
    for form, figures in curves.items():
        sent_megabytes = [total / 1e6 for total in accumulate(figures["bytes_sent_per_device"])]
        colour = next(colour for key, colour in reversed(_COLOURS.items()) if key in form)
        is_whole = form == "float32" or "error feedback" in form
        axes.plot(
            sent_megabytes, figures["metric"], color=colour, linestyle="-" if is_whole else "--", label=form
        )
    axes.set_xscale("log")
    axes.set_xlabel("megabytes that one device has sent")
    axes.grid(color="#e6e6e6", linewidth=0.8)
