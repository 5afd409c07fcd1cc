"""Every statement about personal models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from edgeml_server.blobs import StoredBlob
from edgeml_server.personalization.tables import PersonalModelRow

__all__ = ["HeldPersonalModel", "PersonalModelRepository"]


@dataclass(frozen=True, slots=True)
class HeldPersonalModel:
    """The personal model of a device."""

    device_id: str
    file: StoredBlob
    metrics: Mapping[str, JsonValue]
    updated_at: datetime


class PersonalModelRepository:
    """The personal models of one organization's devices."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def find(self, device_id: str) -> HeldPersonalModel | None:
        """Return a device's personal model, if it keeps one here."""
        row = self._session.scalar(
            select(PersonalModelRow)
            .where(PersonalModelRow.org_id == self._org_id, PersonalModelRow.device_id == device_id)
            .execution_options(populate_existing=True)
        )
        if row is None:
            return None
        file = StoredBlob(row.digest, row.size_bytes)
        return HeldPersonalModel(row.device_id, file, row.metrics, row.updated_at)

    def put(self, held: HeldPersonalModel) -> None:
        """Keep a device's personal model, in place of the one before."""
        values = {
            "digest": held.file.digest,
            "size_bytes": held.file.size_bytes,
            "metrics": dict(held.metrics),
            "updated_at": held.updated_at,
        }
        row = PersonalModelRow(device_id=held.device_id, org_id=self._org_id, **values)
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            self._session.execute(
                update(PersonalModelRow)
                .where(PersonalModelRow.org_id == self._org_id, PersonalModelRow.device_id == held.device_id)
                .values(values)
                .execution_options(synchronize_session=False)
            )
