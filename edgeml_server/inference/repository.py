"""Every statement about inference events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from edgeml_server.inference.tables import InferenceEventRow

__all__ = ["InferenceEventRepository"]


class InferenceEventRepository:
    """The events of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def add(
        self, event: Mapping[str, JsonValue], *, device_identifier: str | None, now: datetime, keep: int
    ) -> None:
        """Keep an event, and of those before only as many as make ``keep`` together."""
        self._session.add(
            InferenceEventRow(
                org_id=self._org_id, device_identifier=device_identifier, event=dict(event), received_at=now
            )
        )
        self._session.flush()
        oldest_kept = (
            select(InferenceEventRow.number)
            .where(InferenceEventRow.org_id == self._org_id)
            .order_by(InferenceEventRow.number.desc())
            .offset(keep - 1)
            .limit(1)
            .scalar_subquery()
        )
        self._session.execute(
            delete(InferenceEventRow)
            .where(InferenceEventRow.org_id == self._org_id, InferenceEventRow.number < oldest_kept)
            .execution_options(synchronize_session=False)
        )

    def count(self) -> int:
        """Return how many events are kept."""
        return (
            self._session.scalar(
                select(func.count())
                .select_from(InferenceEventRow)
                .where(InferenceEventRow.org_id == self._org_id)
            )
            or 0
        )
