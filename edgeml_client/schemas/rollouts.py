"""Rollouts on the wire."""

from __future__ import annotations

from datetime import datetime

from edgeml_client.schemas._record import Record

__all__ = ["Rollout", "RolloutChange"]


class Rollout(Record):
    """A model version on its way to more and more devices.

    Attributes:
        rollout_percentage: Of the devices, how many have the version now, in percent.
        target_percentage: Where it ends, in percent.
        increment_step: What one advance adds, in percent points.
    """

    id: int | str
    model_id: str | None = None
    version: str | None = None
    status: str | None = None
    rollout_percentage: float | None = None
    target_percentage: float | None = None
    increment_step: float | None = None
    created_at: datetime | None = None


class RolloutChange(Record):
    """One entry of a rollout's history."""

    status: str | None = None
    reason: str | None = None
    created_at: datetime | None = None
