"""Every statement about one organization's rounds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import exists, insert, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from edgeml_client.schemas import RoundConfig, RoundPhase
from edgeml_server.aggregation import NormBound
from edgeml_server.auth.tables import TokenFamilyRow
from edgeml_server.db import compare_and_set
from edgeml_server.devices.tables import DeviceRow
from edgeml_server.errors import AbsentError
from edgeml_server.rounds.phases import ACTIVE_PHASES, advance
from edgeml_server.rounds.records import RoundRecord, Series
from edgeml_server.rounds.selection import Candidate
from edgeml_server.rounds.tables import CohortRow, RoundRow, UpdateRow

__all__ = ["WHERE_ROUNDS_ARE_LISTED", "RoundRepository", "record_of"]

WHERE_ROUNDS_ARE_LISTED: Final = "`edgeml-server round list` and GET /training/rounds list those there are"


def record_of(row: RoundRow) -> RoundRecord:
    """Return the value of a row."""
    series = Series(
        series_id=row.series_id,
        model_id=row.model_id,
        num_rounds=row.num_rounds,
        min_updates=row.min_updates,
        cohort_size=row.cohort_size,
        deadline_s=row.deadline_s,
        seed=row.seed,
        norm_bound=NormBound(row.norm_bound),
        config=RoundConfig.model_validate(row.config),
    )
    return RoundRecord(
        id=row.id,
        org_id=row.org_id,
        series=series,
        round_number=row.round_number,
        base_version=row.base_version,
        base_digest=row.base_digest,
        phase=RoundPhase(row.phase),
        num_selected=row.num_selected,
        num_updates=row.num_updates,
        num_samples=row.num_samples,
        created_at=row.created_at,
        deadline_at=row.deadline_at,
        new_version=row.new_version,
        next_round_id=row.next_round_id,
        reason=row.reason,
        revision=row.revision,
        num_attempts=row.num_attempts,
    )


class RoundRepository:
    """The rounds, cohorts and candidates of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def add(self, record: RoundRecord) -> bool:
        """Keep a new round; ``False`` if this place in its series is taken already."""
        series = record.series
        row = RoundRow(
            id=record.id,
            org_id=self._org_id,
            series_id=series.series_id,
            round_number=record.round_number,
            num_rounds=series.num_rounds,
            model_id=series.model_id,
            base_version=record.base_version,
            base_digest=record.base_digest,
            phase=record.phase.value,
            min_updates=series.min_updates,
            cohort_size=series.cohort_size,
            deadline_s=series.deadline_s,
            seed=series.seed,
            norm_bound=series.norm_bound.value,
            config=series.config.model_dump(mode="json"),
            num_selected=0,
            num_updates=0,
            num_samples=0,
            created_at=record.created_at,
            revision=0,
            num_attempts=0,
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return False
        return True

    def find(self, round_id: str) -> RoundRecord | None:
        """Return a round as it is now, or ``None``."""
        row = self._session.scalars(
            select(RoundRow)
            .where(RoundRow.id == round_id, RoundRow.org_id == self._org_id)
            .execution_options(populate_existing=True)
        ).one_or_none()
        return None if row is None else record_of(row)

    def get(self, round_id: str) -> RoundRecord:
        """Return a round as it is now.

        Raises:
            AbsentError: The organization has no such round.
        """
        found = self.find(round_id)
        if found is None:
            raise AbsentError(f"there is no round {round_id!r}; {WHERE_ROUNDS_ARE_LISTED}")
        return found

    def in_phases(
        self, phases: Collection[RoundPhase], *, limit: int = 1000, offset: int = 0
    ) -> tuple[RoundRecord, ...]:
        """Return the rounds in any of the phases, oldest first."""
        rows = self._session.scalars(
            select(RoundRow)
            .where(RoundRow.org_id == self._org_id, RoundRow.phase.in_([phase.value for phase in phases]))
            .order_by(RoundRow.created_at, RoundRow.id)
            .limit(limit)
            .offset(offset)
        )
        return tuple(record_of(row) for row in rows)

    def change_phase(self, record: RoundRecord, wanted: RoundPhase, **values: Any) -> bool:  # noqa: ANN401 - columns
        """Move the round on from the phase in ``record``; ``False`` if it has left that phase.

        Raises:
            IllegalPhaseChangeError: ``wanted`` may not follow that phase.
        """
        return self.set_if(
            record.id,
            RoundRow.phase == record.phase.value,
            values={"phase": advance(record.phase, wanted).value, **values},
        )

    def set_if(self, round_id: str, *expected: Any, values: Mapping[str, Any]) -> bool:  # noqa: ANN401 - SQL
        """Apply ``values`` if the round is as expected still; its revision grows."""
        return compare_and_set(
            self._session,
            RoundRow,
            RoundRow.id == round_id,
            RoundRow.org_id == self._org_id,
            *expected,
            values={**values, "revision": RoundRow.revision + 1},
        )

    def count_update(self, round_id: str, *, num_samples: int, now: datetime) -> bool:
        """Count one more update, if the round takes updates at ``now``; the row is locked until the commit.

        Because the change to aggregating is a change of the same row, an update is either counted before
        it and aggregated, or not counted at all.
        """
        return self.set_if(
            round_id,
            RoundRow.phase == RoundPhase.TRAINING.value,
            RoundRow.deadline_at > now,
            values={
                "num_updates": RoundRow.num_updates + 1,
                "num_samples": RoundRow.num_samples + num_samples,
            },
        )

    def claim(self, round_id: str, *, owner: str, now: datetime, until: datetime) -> bool:
        """Begin to aggregate a round, unless another process is at it; the try is counted."""
        return self.set_if(
            round_id,
            RoundRow.phase == RoundPhase.AGGREGATING.value,
            or_(RoundRow.lease_expires_at.is_(None), RoundRow.lease_expires_at <= now),
            values={
                "lease_owner": owner,
                "lease_expires_at": until,
                "num_attempts": RoundRow.num_attempts + 1,
            },
        )

    def renew(self, round_id: str, *, owner: str, until: datetime) -> bool:
        """Keep a round for longer; ``False`` if another process has taken it over."""
        return self.set_if(
            round_id,
            RoundRow.phase == RoundPhase.AGGREGATING.value,
            RoundRow.lease_owner == owner,
            values={"lease_expires_at": until},
        )

    def uses_model(self, model_id: str, version: str | None) -> bool:
        """Return whether an active round trains the model, from that version if one is named."""
        conditions = [
            RoundRow.org_id == self._org_id,
            RoundRow.model_id == model_id,
            RoundRow.phase.in_(sorted(ACTIVE_PHASES)),
        ]
        if version is not None:
            conditions.append(RoundRow.base_version == version)
        return bool(self._session.scalar(select(exists().where(*conditions))))

    def candidates(self, *, seen_since: datetime) -> tuple[Candidate, ...]:
        """Return the devices that were seen at or after a moment and whose tokens were not revoked."""
        enrolment = exists().where(
            TokenFamilyRow.org_id == self._org_id,
            TokenFamilyRow.device_identifier == DeviceRow.device_identifier,
        )
        rows = self._session.execute(
            select(DeviceRow.id, DeviceRow.device_identifier).where(
                DeviceRow.org_id == self._org_id,
                DeviceRow.last_seen_at >= seen_since,
                # An operator may act for a device that never enrolled.
                or_(~enrolment, enrolment.where(TokenFamilyRow.revoked_at.is_(None))),
            )
        )
        return tuple(Candidate(row.id, row.device_identifier) for row in rows)

    def set_cohort(self, round_id: str, cohort: Iterable[Candidate]) -> None:
        """Keep who was chosen for a round."""
        self._session.execute(
            insert(CohortRow),
            [
                {"round_id": round_id, "device_id": chosen.device_id, "org_id": self._org_id}
                for chosen in cohort
            ],
        )

    def is_in_cohort(self, round_id: str, device_id: str) -> bool:
        """Return whether a device was chosen for a round."""
        chosen = exists().where(
            CohortRow.round_id == round_id,
            CohortRow.device_id == device_id,
            CohortRow.org_id == self._org_id,
        )
        return bool(self._session.scalar(select(chosen)))

    def assigned_to(self, device_id: str, *, now: datetime) -> tuple[RoundRecord, ...]:
        """Return the rounds that wait for this device's update, oldest first."""
        has_answered = exists().where(UpdateRow.round_id == RoundRow.id, UpdateRow.device_id == device_id)
        rows = self._session.scalars(
            select(RoundRow)
            .join(CohortRow, CohortRow.round_id == RoundRow.id)
            .where(
                CohortRow.device_id == device_id,
                RoundRow.org_id == self._org_id,
                RoundRow.phase == RoundPhase.TRAINING.value,
                RoundRow.deadline_at > now,
                ~has_answered,
            )
            .order_by(RoundRow.created_at, RoundRow.id)
        )
        return tuple(record_of(row) for row in rows)
