"""Ours: from update files on the disk to the mean, and on to the file of the next version."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from benchmarks.cases.plain import Call, Cases
from benchmarks.cases.streaming import sample_counts, stream
from benchmarks.cases.updates_ours import PIPELINES, made
from benchmarks.shapes import num_parameters, states
from edgeml_client.updates import encode_model, layout_of
from edgeml_client.updates.outbox import Outbox
from edgeml_server.aggregation import Contribution, average_updates, write_next_version

__all__ = ["cases"]


def cases(size: str, *, num_updates: int) -> Cases:
    """Return the mean of dense and of coded updates, each mapped from its file and checked again.

    All of them are the same file: fifty different ones would measure the disk.
    """
    base, updated = states(size)
    layout = layout_of(base)
    folder = tempfile.TemporaryDirectory(prefix="edgeml-bench-")
    model_path = Path(folder.name, "base")
    model_path.write_bytes(encode_model(base))

    def contributions(title: str) -> list[Contribution]:
        path = Path(folder.name, f"update-{len(title)}")
        outbox = Outbox(Path(folder.name, f"outbox-{len(title)}"))
        path.write_bytes(bytes(made(size, PIPELINES[title], outbox).data))
        return [Contribution(path, count, norm=1.0) for count in sample_counts(num_updates)]

    def mean_of(title: str) -> Call:
        given = contributions(title)

        def run() -> int:
            average_updates(given, layout)
            return 0

        return run

    dense = contributions("dense float32")

    def next_version() -> int:
        write_next_version(model_path, average_updates(dense, layout), io.BytesIO())
        return 0

    coded = "clip, error feedback, top-k 10 %, 4 bit"
    return Cases(
        {
            "dense float32": mean_of("dense float32"),
            coded: mean_of(coded),
            "dense float32, and the next version's file": next_version,
        },
        limit=stream(lambda: updated, num_updates=num_updates),
        num_parameters=num_parameters(size),
        close=folder.cleanup,
    )
