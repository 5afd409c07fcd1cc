"""Ours: from two state dicts to an update file that lies on the disk, synced."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.cases.plain import Call, Cases, fresh_subtract
from benchmarks.shapes import num_parameters, states
from edgeml_client import apply_filters, compute_state_dict_delta
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import encode_update
from edgeml_client.updates.outbox import Outbox

__all__ = ["PIPELINES", "cases", "update_file"]

PIPELINES: Final[dict[str, list[dict[str, Any]]]] = {
    "dense float32": [],
    "clip, noise, top-k 10 %, 8 bit": [
        {"type": "gradient_clip", "max_norm": 1.0},
        {"type": "gaussian_noise", "sigma": 0.01},
        {"type": "sparsification", "top_k": 0.1},
        {"type": "quantization", "bits": 8},
    ],
    "clip, top-k 10 %, 8 bit": [
        {"type": "gradient_clip", "max_norm": 1.0},
        {"type": "sparsification", "top_k": 0.1},
        {"type": "quantization", "bits": 8},
    ],
    "clip, top-k 10 %, 4 bit": [
        {"type": "gradient_clip", "max_norm": 1.0},
        {"type": "sparsification", "top_k": 0.1},
        {"type": "quantization", "bits": 4},
    ],
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


def update_file(size: str, filters: list[dict[str, Any]]) -> bytes:
    """Return the file of one update, as a device would send it."""
    base, updated = states(size)
    return encode_update(header(), apply_filters(compute_state_dict_delta(base, updated), filters).delta)


def cases(size: str) -> Cases:
    """Return each pipeline up to a file synced in the outbox, and the dense one in memory too."""
    base, updated = states(size)
    folder = tempfile.TemporaryDirectory(prefix="edgeml-bench-")
    outbox = Outbox(Path(folder.name))
    numbers = itertools.count()

    def encoded(filters: list[dict[str, Any]]) -> bytes:
        delta = compute_state_dict_delta(base, updated)
        filtered = apply_filters(delta, filters).delta if filters else delta
        return encode_update(header(round_number=next(numbers)), filtered)

    def stored(filters: list[dict[str, Any]]) -> int:
        pending = outbox.put(encoded(filters))
        outbox.remove(pending)
        return pending.num_bytes

    calls: dict[str, Call] = {"dense float32, in memory": lambda: len(encoded([]))}
    for title, filters in PIPELINES.items():
        calls[f"{title}, on disk and synced"] = lambda filters=filters: stored(filters)
    return Cases(
        calls, limit=fresh_subtract(base, updated), num_parameters=num_parameters(size), close=folder.cleanup
    )
