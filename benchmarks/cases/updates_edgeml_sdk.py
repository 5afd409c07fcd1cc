"""edgeml-sdk: from two state dicts to the body of its upload request."""

from __future__ import annotations

import base64
from typing import Any

import httpx
from edgeml.federated_client import FederatedClient, apply_filters, compute_state_dict_delta

from benchmarks.cases.plain import Cases, fresh_subtract
from benchmarks.shapes import num_parameters, states

__all__ = ["cases"]

_FILTERS = [
    {"type": "gradient_clip", "max_norm": 1.0},
    {"type": "gaussian_noise", "stddev": 0.01},
    {"type": "sparsification", "top_k_percent": 10.0},
    {"type": "quantization", "bits": 8},
]


def cases(size: str) -> Cases:
    """Return its pipeline without filters, and with the four that its documentation shows."""
    base, updated = states(size)
    client = FederatedClient(auth_token_provider=lambda: "token", api_base="http://127.0.0.1:9")

    serialize = client._serialize_weights  # noqa: SLF001 - what its upload calls

    def body_of(delta: dict[str, Any]) -> int:
        # participate_in_round() makes the same JSON and hands it to httpx, which encodes it like this.
        upload = {
            "model_id": "model",
            "version": "1",
            "device_id": "device",
            "round_id": "round",
            "sample_count": 100,
            "metrics": {},
            "update_format": "delta",
            "weights_data": base64.b64encode(serialize(delta)).decode("ascii"),
        }
        return len(httpx.Request("POST", "http://127.0.0.1:9/training/weights", json=upload).read())

    return Cases(
        {
            "no filters": lambda: body_of(compute_state_dict_delta(base, updated)),
            "clip, noise, top-k 10 %, 8 bit": lambda: body_of(
                apply_filters(compute_state_dict_delta(base, updated), _FILTERS)
            ),
        },
        limit=fresh_subtract(base, updated),
        num_parameters=num_parameters(size),
    )
