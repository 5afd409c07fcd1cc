"""What a control plane may announce beyond the calls that every one understands."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Capability"]


class Capability(StrEnum):
    """A name in ``capabilities`` of ``GET /health`` and of a round's config."""

    MODELS_SAFETENSORS = "models.safetensors"
    """Models come as ``format=safetensors``, too."""
    ROUNDS_WAIT = "rounds.wait"
    """Answers about rounds are held back with ``wait_s`` until there is news."""
    UPDATES_BINARY = "updates.binary"
    """``POST /training/rounds/{id}/updates`` takes update files."""
    UPDATES_CODED = "updates.coded"
    """These may be in the coded form."""
