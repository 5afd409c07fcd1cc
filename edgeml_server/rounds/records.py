"""What the rounds domain knows about a round and an update, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from edgeml_client.schemas import RoundConfig, RoundPhase
from edgeml_server.aggregation import NormBound
from edgeml_server.rounds.deadlines import RoundProgress

__all__ = ["RoundRecord", "Series", "UpdateRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What all rounds of a series have in common.

    Attributes:
        num_rounds: How many rounds follow each other, at least 1.
        min_updates: The fewest updates with which a round is aggregated, at least 1.
        cohort_size: How many devices to draw; ``None`` takes all that are there.
        deadline_s: Seconds from the draw of a cohort to the end of its training.
        seed: Makes the draws repeatable.
    """

    series_id: str
    model_id: str
    num_rounds: int
    min_updates: int
    cohort_size: int | None
    deadline_s: float
    seed: int
    norm_bound: NormBound
    config: RoundConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRecord:
    """One round as it stands in the database.

    Attributes:
        base_digest: The SHA-256 of the base version's safetensors file, as ``sha256:<hex>``.
        num_attempts: How often a process began to aggregate it.
    """

    id: str
    org_id: str
    series: Series
    round_number: int
    base_version: str
    base_digest: str
    phase: RoundPhase
    num_selected: int = 0
    num_updates: int = 0
    num_samples: int = 0
    created_at: datetime
    deadline_at: datetime | None = None
    new_version: str | None = None
    next_round_id: str | None = None
    reason: str | None = None
    revision: int = 0
    num_attempts: int = 0

    @property
    def model_id(self) -> str:
        """The model that is trained."""
        return self.series.model_id

    @property
    def progress(self) -> RoundProgress:
        """What the rules about deadlines look at."""
        return RoundProgress(
            phase=self.phase,
            num_selected=self.num_selected,
            num_updates=self.num_updates,
            min_updates=self.series.min_updates,
            deadline_at=self.deadline_at,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRecord:
    """An update that counts.

    Attributes:
        digest: The SHA-256 of the body as it was sent.
        blob_digest: The SHA-256 of the update file in the blob store.
        norm: The L2 norm over all its arrays.
        round_id: Empty for a legacy update that waits for ``POST /training/aggregate``.
        new_version: The version such an update went into.
    """

    id: str
    round_id: str | None
    device_id: str
    device_identifier: str
    model_id: str
    base_version: str
    digest: str
    blob_digest: str
    size_bytes: int
    sample_count: int
    norm: float
    metrics: Mapping[str, float]
    accepted_at: datetime
    new_version: str | None = None
