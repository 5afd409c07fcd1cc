"""Ours: from two state dicts to an update file that lies on the disk, synced."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.cases.plain import Call, Cases, fresh_subtract
from benchmarks.shapes import num_parameters, states
from edgeml_client.filters import resolve_filters
from edgeml_client.resources.update_making import MadeUpdate, make_update
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import StreamedDelta, layout_of
from edgeml_client.updates.arrays import State
from edgeml_client.updates.outbox import Outbox
from edgeml_client.updates.streamed_update import StreamedUpdate

__all__ = ["PIPELINES", "cases", "header", "made"]

CLIP: Final = {"type": "gradient_clip", "max_norm": 1.0}
TOP_TENTH: Final = {"type": "sparsification", "top_k": 0.1}
PIPELINES: Final[dict[str, list[dict[str, Any]]]] = {
    "dense float32": [],
    "clip, noise, top-k 10 %, 8 bit": [
        CLIP,
        {"type": "gaussian_noise", "sigma": 0.01},
        TOP_TENTH,
        {"type": "quantization", "bits": 8},
    ],
    **{
        f"clip, error feedback, top-k 10 %, {bits} bit": [
            CLIP,
            {"type": "error_feedback"},
            TOP_TENTH,
            {"type": "quantization", "bits": bits},
        ]
        for bits in (8, 4)
    },
}


def header(*, round_number: int = 1) -> UpdateHeader:
    """Return the envelope of an update."""
    return UpdateHeader(
        round_id=f"round_{round_number}",
        model_id="model",
        base_version="1",
        base_digest="sha256:" + "0" * 64,
        device_id="device",
        sample_count=100,
    )


def made(size: str, filters: list[dict[str, Any]], outbox: Outbox, *, round_number: int = 1) -> MadeUpdate:
    """Return one update, made as a device makes it."""
    base, updated = states(size)
    return made_from(base, updated, filters, outbox, round_number=round_number)


def made_from(
    base: State, updated: State, filters: list[dict[str, Any]], outbox: Outbox, *, round_number: int
) -> MadeUpdate:
    """Return the update of a device that has both states at hand."""
    return make_update(
        StreamedDelta.between(base, updated),
        resolve_filters(filters, strict=False),  # one list is in the order that edgeml-sdk documents
        header_for=lambda _trail: header(round_number=round_number),
        layout=layout_of(base),
        residuals=outbox.residuals,
        allow_coded=True,
    )


def cases(size: str) -> Cases:
    """Return each pipeline to a file synced in the outbox, and the dense one to the chunks that are sent."""
    base, updated = states(size)
    folder = tempfile.TemporaryDirectory(prefix="edgeml-bench-")
    numbers = itertools.count()

    def stored(title: str) -> Call:
        outbox = Outbox(Path(folder.name, title))

        def run() -> int:
            update = made_from(base, updated, PIPELINES[title], outbox, round_number=next(numbers))
            pending = outbox.put(update.data, left_out=update.left_out)
            outbox.remove(pending)
            return pending.num_bytes

        return run

    streaming = Outbox(Path(folder.name, "streaming"))

    def streamed() -> int:
        data = made_from(base, updated, [], streaming, round_number=next(numbers)).data
        return sum(map(len, data.chunks() if isinstance(data, StreamedUpdate) else [data]))

    calls: dict[str, Call] = {"dense float32, as a stream": streamed}
    calls |= {f"{title}, on disk and synced": stored(title) for title in PIPELINES}
    return Cases(
        calls, limit=fresh_subtract(base, updated), num_parameters=num_parameters(size), close=folder.cleanup
    )
