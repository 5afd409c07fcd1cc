"""Envelopes of updates."""

from __future__ import annotations

from typing import Any

from edgeml_client.schemas import UpdateHeader

__all__ = ["envelope"]


def envelope(**facts: Any) -> UpdateHeader:
    """Return an envelope that says these facts; all others are made up."""
    made_up = {
        "round_id": "r-1",
        "model_id": "m",
        "base_version": "1",
        "base_digest": "sha256:0",
        "device_id": "d",
        "sample_count": 1,
    }
    return UpdateHeader.model_validate(made_up | facts)
