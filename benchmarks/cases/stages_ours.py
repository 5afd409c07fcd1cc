"""Ours, step by step: each stage and each filter alone, held against a memory copy of the model."""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import Any, Final

from benchmarks.cases.plain import Call, Cases, memory_copy
from benchmarks.cases.updates_ours import header
from benchmarks.shapes import num_parameters, states
from edgeml_client import apply_filters, compute_state_dict_delta
from edgeml_client.updates import DeltaVector, encode_update, layout_of, open_update

__all__ = ["cases"]

_FILTERS: Final[dict[str, dict[str, Any]]] = {
    "gradient_clip": {"type": "gradient_clip", "max_norm": 1.0},
    "gaussian_noise": {"type": "gaussian_noise", "sigma": 0.01},
    "norm_validation": {"type": "norm_validation", "max_norm": 1e9},
    "sparsification 10 %": {"type": "sparsification", "top_k": 0.1},
    "quantization 8 bit": {"type": "quantization", "bits": 8},
    "quantization 4 bit": {"type": "quantization", "bits": 4},
    "quantization 8 bit, stochastic": {"type": "quantization", "bits": 8, "rounding": "stochastic"},
    "random-k 10 %": {"type": "sparsification", "random_k": 0.1, "seed": 1},
    "stochastic_sign": {"type": "stochastic_sign"},
    "low_rank 4": {"type": "low_rank", "rank": 4},
    "exclude": {"type": "exclude", "names": ["*.bias"]},
}


def cases(size: str) -> Cases:
    """Return the stages in the order in which an update passes them, then the filters."""
    base, updated = states(size)
    delta = compute_state_dict_delta(base, updated)
    data = encode_update(header(), delta)
    layout = layout_of(base)
    vector = DeltaVector.of(delta)
    folder = tempfile.TemporaryDirectory(prefix="edgeml-bench-")

    def write_and_sync() -> int:
        with tempfile.TemporaryFile(dir=folder.name) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return 0

    def done(_: object) -> int:
        return 0

    calls: dict[str, Call] = {
        "delta": lambda: done(compute_state_dict_delta(base, updated)),
        "one vector of it": lambda: done(DeltaVector.of(delta)),
        "norm, and with it the finite check": lambda: done(vector.norm()),
        "no filters": lambda: done(apply_filters(delta, [])),
        "encode": lambda: done(encode_update(header(), delta)),
        "SHA-256": lambda: done(hashlib.sha256(data).digest()),
        "write and sync": write_and_sync,
        "open and check, on the server": lambda: done(open_update(data, layout).check_finite()),
    }
    for title, entry in _FILTERS.items():
        calls[f"filter: {title}"] = lambda entry=entry: done(apply_filters(delta, [entry]))
    return Cases(calls, limit=memory_copy(size), num_parameters=num_parameters(size), close=folder.cleanup)
