"""Federations on the wire."""

from __future__ import annotations

from datetime import datetime

from edgeml_client.schemas._record import Record

__all__ = ["AggregationResult", "FederationRecord", "Invitation"]


class FederationRecord(Record):
    """Organizations that train together."""

    id: str
    name: str | None = None
    org_id: str | None = None
    created_at: datetime | None = None


class Invitation(Record):
    """An organization asked to join a federation."""

    org_id: str | None = None
    status: str | None = None


class AggregationResult(Record):
    """``POST /training/aggregate``: the version that came of it."""

    new_version: str | None = None
