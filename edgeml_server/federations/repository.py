"""Every statement about federations."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from edgeml_client.schemas import FederationRecord
from edgeml_server.db import new_id
from edgeml_server.errors import AbsentError
from edgeml_server.federations.tables import FederationRow, InvitationRow

__all__ = ["FederationRepository"]


class FederationRepository:
    """The federations of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def page(self, *, name: str | None) -> tuple[FederationRecord, ...]:
        """Return the federations, by name; with ``name``, that one alone."""
        where = [FederationRow.org_id == self._org_id]
        if name is not None:
            where.append(FederationRow.name == name)
        rows = self._session.scalars(select(FederationRow).where(*where).order_by(FederationRow.name))
        return tuple(_record(row) for row in rows)

    def ensure(self, name: str, *, now: datetime) -> tuple[FederationRecord, bool]:
        """Return the federation of that name, made if there is none, and whether it is new."""
        row = FederationRow(id=new_id("fed"), org_id=self._org_id, name=name, created_at=now)
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return self.page(name=name)[0], False
        return _record(row), True

    def require(self, federation_id: str) -> None:
        """Return if the organization has such a federation.

        Raises:
            AbsentError: It has none.
        """
        found = self._session.scalar(
            select(FederationRow.id).where(
                FederationRow.org_id == self._org_id, FederationRow.id == federation_id
            )
        )
        if found is None:
            raise AbsentError(f"there is no federation {federation_id[:80]!r}; list the federations")

    def invite(self, federation_id: str, invited_org_id: str, *, now: datetime) -> None:
        """Keep that an organization was asked to join; asking again changes nothing."""
        row = InvitationRow(
            federation_id=federation_id, invited_org_id=invited_org_id, org_id=self._org_id, invited_at=now
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return


def _record(row: FederationRow) -> FederationRecord:
    return FederationRecord(id=row.id, name=row.name, org_id=row.org_id, created_at=row.created_at)
