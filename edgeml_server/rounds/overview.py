"""The keeper's statements: the only ones that look across organizations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from edgeml_client.schemas import RoundPhase
from edgeml_server.rounds.phases import ACTIVE_PHASES
from edgeml_server.rounds.records import RoundRecord
from edgeml_server.rounds.repository import record_of
from edgeml_server.rounds.tables import CohortRow, RoundRow

__all__ = ["ActiveRound", "active_rounds", "cohort_of", "find_anywhere", "release_leases"]


@dataclass(frozen=True, slots=True)
class ActiveRound:
    """As much of a round that has not ended as the keeper needs to see."""

    round_id: str
    org_id: str
    phase: RoundPhase
    revision: int
    deadline_at: datetime | None
    lease_expires_at: datetime | None

    @property
    def next_moment(self) -> datetime | None:
        """When something may be due for this round by itself."""
        if self.phase is RoundPhase.TRAINING:
            return self.deadline_at
        return self.lease_expires_at if self.phase is RoundPhase.AGGREGATING else None


def active_rounds(session: Session) -> tuple[ActiveRound, ...]:
    """Return all rounds that have not ended, oldest first."""
    rows = session.execute(
        select(
            RoundRow.id,
            RoundRow.org_id,
            RoundRow.phase,
            RoundRow.revision,
            RoundRow.deadline_at,
            RoundRow.lease_expires_at,
        )
        .where(RoundRow.phase.in_(sorted(ACTIVE_PHASES)))
        .order_by(RoundRow.created_at, RoundRow.id)
    )
    return tuple(
        ActiveRound(
            row.id, row.org_id, RoundPhase(row.phase), row.revision, row.deadline_at, row.lease_expires_at
        )
        for row in rows
    )


def find_anywhere(session: Session, round_id: str) -> RoundRecord | None:
    """Return a round of any organization, or ``None``."""
    row = session.get(RoundRow, round_id)
    return None if row is None else record_of(row)


def cohort_of(session: Session, round_id: str) -> tuple[str, ...]:
    """Return the ids of the devices chosen for a round."""
    return tuple(session.scalars(select(CohortRow.device_id).where(CohortRow.round_id == round_id)))


def release_leases(session: Session) -> None:
    """Let every round that was being aggregated be taken up at once."""
    session.execute(
        update(RoundRow)
        .where(RoundRow.phase == RoundPhase.AGGREGATING.value)
        .values(lease_owner=None, lease_expires_at=None)
        .execution_options(synchronize_session=False)
    )
