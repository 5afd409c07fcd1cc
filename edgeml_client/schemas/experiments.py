"""Experiments on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from edgeml_client.schemas._record import Record, WireBody

__all__ = ["Experiment", "ExperimentCreation", "Variant", "VariantSpec"]


class VariantSpec(WireBody):
    """One arm of a new experiment.

    Attributes:
        traffic_allocation: Share of the experiment's traffic, in percent.
    """

    name: str
    model_version: str
    traffic_allocation: float = Field(ge=0, le=100)
    is_control: bool


class ExperimentCreation(WireBody):
    """``POST /experiments``; the variants are control first, then treatment."""

    name: str
    model_id: str
    description: str | None = None
    traffic_percentage: float = Field(default=100.0, ge=0, le=100)
    min_sample_size: int = Field(default=100, ge=1)
    confidence_level: float = Field(default=0.95, gt=0, lt=1)
    primary_metric: str = "conversion"
    variants: tuple[VariantSpec, VariantSpec]


class Variant(Record):
    """One arm of an experiment."""

    name: str
    model_version: str | None = None
    traffic_allocation: float | None = None
    is_control: bool | None = None


class Experiment(Record):
    """Two versions of a model, compared on devices."""

    id: str
    name: str | None = None
    model_id: str | None = None
    status: str | None = None
    description: str | None = None
    variants: tuple[Variant, ...] = ()
    created_at: datetime | None = None
