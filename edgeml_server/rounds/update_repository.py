"""Every statement about one organization's updates."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from edgeml_server.rounds.records import UpdateRecord
from edgeml_server.rounds.tables import UpdateRow

__all__ = ["UpdateRepository"]

_MAX_VARIABLES: Final = 500
"""Databases bound how many values one statement may carry."""


def _record_of(row: UpdateRow) -> UpdateRecord:
    return UpdateRecord(
        id=row.id,
        round_id=row.round_id,
        device_id=row.device_id,
        device_identifier=row.device_identifier,
        model_id=row.model_id,
        base_version=row.base_version,
        digest=row.digest,
        blob_digest=row.blob_digest,
        size_bytes=row.size_bytes,
        sample_count=row.sample_count,
        norm=row.norm,
        metrics={name: float(value) for name, value in row.metrics.items() if isinstance(value, int | float)},
        accepted_at=row.accepted_at,
        new_version=row.new_version,
    )


class UpdateRepository:
    """The updates of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def add(self, record: UpdateRecord) -> bool:
        """Keep an update; ``False`` if one is held in its place already."""
        row = UpdateRow(
            id=record.id,
            org_id=self._org_id,
            round_id=record.round_id,
            device_id=record.device_id,
            device_identifier=record.device_identifier,
            model_id=record.model_id,
            base_version=record.base_version,
            digest=record.digest,
            blob_digest=record.blob_digest,
            size_bytes=record.size_bytes,
            sample_count=record.sample_count,
            norm=record.norm,
            metrics=dict(record.metrics),
            accepted_at=record.accepted_at,
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return False
        return True

    def find(self, *, round_id: str, device_id: str) -> UpdateRecord | None:
        """Return a device's update for a round, if it is held."""
        row = self._session.scalars(
            select(UpdateRow).where(
                UpdateRow.org_id == self._org_id,
                UpdateRow.round_id == round_id,
                UpdateRow.device_id == device_id,
            )
        ).one_or_none()
        return None if row is None else _record_of(row)

    def find_without_round(
        self, *, device_id: str, model_id: str, base_version: str, digest: str
    ) -> UpdateRecord | None:
        """Return the very same legacy update, if it is held."""
        row = self._session.scalars(
            select(UpdateRow).where(
                UpdateRow.org_id == self._org_id,
                UpdateRow.round_id.is_(None),
                UpdateRow.device_id == device_id,
                UpdateRow.model_id == model_id,
                UpdateRow.base_version == base_version,
                UpdateRow.digest == digest,
            )
        ).one_or_none()
        return None if row is None else _record_of(row)

    def of_round(self, round_id: str) -> tuple[UpdateRecord, ...]:
        """Return a round's updates in the order in which they are summed."""
        return self._ordered(UpdateRow.round_id == round_id)

    def pending_without_round(self, *, model_id: str, base_version: str) -> tuple[UpdateRecord, ...]:
        """Return the legacy updates that went into no version yet, in the order in which they are summed."""
        return self._ordered(
            UpdateRow.round_id.is_(None),
            UpdateRow.new_version.is_(None),
            UpdateRow.model_id == model_id,
            UpdateRow.base_version == base_version,
        )

    def mark_aggregated(self, ids: tuple[str, ...], *, new_version: str) -> bool:
        """Say into which version these updates went; ``False`` if one of them went into another already."""
        num_marked = 0
        for start in range(0, len(ids), _MAX_VARIABLES):
            some = ids[start : start + _MAX_VARIABLES]
            result = self._session.connection().execute(
                update(UpdateRow)
                .where(
                    UpdateRow.org_id == self._org_id, UpdateRow.id.in_(some), UpdateRow.new_version.is_(None)
                )
                .values(new_version=new_version)
            )
            num_marked += result.rowcount
        return num_marked == len(ids)

    def _ordered(self, *conditions: ColumnElement[bool]) -> tuple[UpdateRecord, ...]:
        rows = self._session.scalars(select(UpdateRow).where(UpdateRow.org_id == self._org_id, *conditions))
        # Sorted here: the order of text depends on a database's collation, and the sum on the order.
        return tuple(
            sorted((_record_of(row) for row in rows), key=lambda held: (held.device_identifier, held.digest))
        )
