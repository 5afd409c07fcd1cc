"""Personal models on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field, JsonValue

from edgeml_client.schemas._record import Record, WireBody

__all__ = ["PersonalModel", "PersonalUpload"]


class PersonalUpload(WireBody):
    """``POST /training/personalized/{device_id}``.

    Attributes:
        weights_data: Base64 of the personal state dict.
        metrics: Finite figures about it.
        format: How the state is written. Only sent to control planes that announce
            ``models.safetensors``; absent means the torch-saved form.
    """

    weights_data: str
    metrics: dict[str, float] = Field(default_factory=dict)
    format: Literal["pytorch", "safetensors"] | None = None


class PersonalModel(Record):
    """``GET /training/personalized/{device_id}``: what the control plane keeps for this device.

    Attributes:
        weights_data: Base64 of the personal state dict.
        format: ``safetensors``, or ``pytorch`` for the torch-saved form, which older servers mean by silence.
    """

    device_id: str | None = None
    weights_data: str | None = None
    format: str = "pytorch"
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    updated_at: datetime | None = None
