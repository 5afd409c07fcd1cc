"""Rounds and updates on the wire."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AliasChoices, Field, JsonValue

from edgeml_client.schemas._record import Record, WireBody
from edgeml_client.schemas.numbers import NonNegativeFloat32, PositiveFloat32

__all__ = [
    "MAX_FILTERS",
    "RoundAssignment",
    "RoundConfig",
    "RoundPhase",
    "RoundStatus",
    "UpdateHeader",
    "UpdateReceipt",
    "WeightsUpload",
]

DELTA_FORMAT: Final = "edgeml-delta/1"
"""The name of our update format; a change that old readers cannot read gets a new number."""

RoundId = Annotated[str, Field(validation_alias=AliasChoices("round_id", "id"))]
"""Older servers name a round ``id`` alone, newer ones say both."""


MAX_FILTERS: Final = 64
"""The filters that a round may ask for: each may pass over the whole update."""


class RoundPhase(StrEnum):
    """Where a round stands on the control plane."""

    SELECTING = "selecting"
    TRAINING = "training"
    AGGREGATING = "aggregating"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


class RoundConfig(Record):
    """What a round asks of its devices; a strategy chosen here yields to the user's own arguments.

    Attributes:
        strategy: What devices call it: ``fedavg``, ``fedprox``, ``ditto``, ``fedper``, ``fedrep``, ``fedbn``,
            ``apfl``, ``scaffold``, or one of their own; ``None`` leaves it to the device.
        proximal_mu: FedProx's mu, at least 0.
        lambda_ditto: Ditto's lambda, at least 0.
        head_layers: FedPer's and FedRep's private layers, as module paths.
        head_epochs: FedRep's epochs for the head alone, at least 1.
        mixing_alpha: APFL's alpha, in [0, 1].
        cohort_fraction: Which part of all devices trains in a round, in (0, 1], for SCAFFOLD.
        filters: Filter configurations, in order, at most 64.
        clip_norm: Short for a ``gradient_clip`` in front of ``filters``.
        capabilities: What this round's control plane understands beyond the legacy calls.
    """

    model_id: str | None = None
    version: str | None = None
    strategy: str | None = None
    proximal_mu: NonNegativeFloat32 | None = None
    lambda_ditto: NonNegativeFloat32 | None = None
    head_layers: tuple[str, ...] | None = None
    head_epochs: int | None = Field(default=None, ge=1)
    mixing_alpha: float | None = Field(default=None, ge=0, le=1)
    cohort_fraction: float | None = Field(default=None, gt=0, le=1)
    filters: tuple[dict[str, JsonValue], ...] = Field(default=(), max_length=MAX_FILTERS)
    clip_norm: PositiveFloat32 | None = None
    secure_aggregation: bool = False
    capabilities: tuple[str, ...] = ()


class RoundAssignment(Record):
    """A round this device was chosen for and has not answered yet.

    Attributes:
        version: The global version to train from; ``base_digest`` is the SHA-256 of its safetensors file
            as ``sha256:<hex>`` (absent on servers that do not announce it).
        round_number: Counts from 1 within ``num_rounds`` rounds that follow each other.
    """

    round_id: RoundId
    model_id: str
    version: str
    state: str
    config: RoundConfig = Field(default_factory=RoundConfig)
    base_digest: str | None = None
    round_number: int | None = None
    num_rounds: int | None = None
    deadline_at: datetime | None = None


class RoundStatus(Record):
    """How far a round is.

    Attributes:
        num_selected: Devices in the cohort.
        num_updates: Updates accepted so far.
        num_samples: Samples behind the accepted updates.
        new_version: The global version this round produced, once completed.
        next_round_id: The round that follows, once it is open.
        reason: Why the round was abandoned.
    """

    round_id: RoundId
    model_id: str | None = None
    version: str | None = None
    state: str = ""
    config: RoundConfig = Field(default_factory=RoundConfig)
    base_digest: str | None = None
    round_number: int | None = None
    num_rounds: int | None = None
    num_selected: int | None = None
    num_updates: int | None = None
    num_samples: int | None = None
    min_updates: int | None = None
    new_version: str | None = None
    next_round_id: str | None = None
    deadline_at: datetime | None = None
    reason: str | None = None


class UpdateHeader(WireBody):
    """The envelope of an update, kept in the ``__metadata__`` of its safetensors file.

    Attributes:
        private: Names of arrays that stay on the device and are absent from the file (FedPer's head).
        filters: The audit trail: one entry for each filter that ran on the device.
    """

    format: Literal["edgeml-delta/1"] = DELTA_FORMAT
    round_id: str
    model_id: str
    base_version: str
    base_digest: str
    device_id: str
    sample_count: int = Field(ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)
    private: tuple[str, ...] = ()
    filters: tuple[dict[str, JsonValue], ...] = ()


class WeightsUpload(WireBody):
    """``POST /training/weights``: the legacy form, a base64 torch-saved state dict in JSON."""

    model_id: str
    version: str
    device_id: str
    sample_count: int = Field(ge=0)
    metrics: dict[str, float] = Field(default_factory=dict)
    update_format: Literal["weights", "delta"] = "weights"
    weights_data: str
    round_id: str | None = None
    detected_features: tuple[str, ...] | None = None


class UpdateReceipt(Record):
    """What the control plane says once it holds an update for good.

    Attributes:
        status: ``accepted``, or ``duplicate`` when the very same update was held already.
    """

    update_id: str
    status: str
