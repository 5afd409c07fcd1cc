"""Opening, drawing, closing and reading rounds; each function is one step of a unit of work."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from edgeml_client.schemas import RoundAssignment, RoundConfig, RoundPhase, RoundStatus
from edgeml_server.aggregation import NormBound
from edgeml_server.db import UnitOfWork, new_id
from edgeml_server.errors import ContradictionError, InvalidContentError
from edgeml_server.registry.rules import check_version_name
from edgeml_server.rounds.announcements import KEEPER_TOPIC, Announcements, device_topic, round_topic
from edgeml_server.rounds.bases import BaseVersion
from edgeml_server.rounds.bodies import CreateRoundRequest
from edgeml_server.rounds.configs import announced_config, checked_config
from edgeml_server.rounds.deadlines import PhaseChange, due_change, opens_another
from edgeml_server.rounds.phases import ACTIVE_PHASES, ENDED_PHASES
from edgeml_server.rounds.records import RoundRecord, Series
from edgeml_server.rounds.repository import RoundRepository
from edgeml_server.rounds.selection import draw_cohort
from edgeml_server.rounds.versions import next_version

__all__ = [
    "RoundWork",
    "apply_due_change",
    "assignment_of",
    "cancel",
    "close_round",
    "create_series",
    "draw_waiting_cohorts",
    "phases_named",
    "status_of",
    "uses_version",
]

_SEEN_WITHIN: Final = timedelta(hours=24)
"""A device that was not seen for longer is not expected to answer."""


@dataclass(frozen=True, slots=True)
class RoundWork:
    """A unit of work on one organization's rounds, at one moment."""

    work: UnitOfWork
    org_id: str
    now: datetime
    announcements: Announcements

    @property
    def session(self) -> Session:
        """Where repositories run their statements."""
        return self.work.session

    @property
    def rounds(self) -> RoundRepository:
        """The rounds of the organization."""
        return RoundRepository(self.work.session, self.org_id)

    def announce(self, *topics: str) -> None:
        """Wake those who listen to the topics, once the change is durable."""
        self.work.after_commit(lambda: self.announcements.announce(topics))


def create_series(desk: RoundWork, request: CreateRoundRequest, base: BaseVersion) -> RoundRecord:
    """Open the first round of a series, and draw its cohort if enough devices are there.

    Raises:
        InvalidContentError: The numbers or the config cannot work, or the next version has no name.
    """
    if request.cohort_size is not None and request.cohort_size < request.min_updates:
        raise InvalidContentError(
            f"cohort_size {request.cohort_size} is below min_updates {request.min_updates}: such a round "
            "could never be aggregated; choose more devices or ask for fewer updates"
        )
    check_version_name(next_version(base.version))
    round_id = new_id("round")
    series = Series(
        series_id=round_id,
        model_id=base.model_id,
        num_rounds=request.num_rounds,
        min_updates=request.min_updates,
        cohort_size=request.cohort_size,
        deadline_s=request.deadline_s,
        seed=secrets.randbits(63) if request.seed is None else request.seed,
        norm_bound=NormBound(request.norm_bound),
        config=checked_config(request.config, base.layout),
    )
    record = RoundRecord(
        id=round_id,
        org_id=desk.org_id,
        series=series,
        round_number=1,
        base_version=base.version,
        base_digest=base.digest,
        phase=RoundPhase.SELECTING,
        created_at=desk.now,
    )
    desk.rounds.add(record)
    desk.announce(KEEPER_TOPIC)
    _draw(desk, record)
    return desk.rounds.get(round_id)


def draw_waiting_cohorts(desk: RoundWork) -> int:
    """Draw a cohort for every selecting round for which enough devices are there; return how many."""
    return sum(_draw(desk, record) for record in desk.rounds.in_phases({RoundPhase.SELECTING}))


def _draw(desk: RoundWork, record: RoundRecord) -> bool:
    series = record.series
    cohort = draw_cohort(
        desk.rounds.candidates(seen_since=desk.now - _SEEN_WITHIN),
        min_updates=series.min_updates,
        cohort_size=series.cohort_size,
        seed=series.seed,
        round_number=record.round_number,
    )
    if cohort is None:
        return False
    is_mine = desk.rounds.change_phase(
        record,
        RoundPhase.TRAINING,
        num_selected=len(cohort),
        deadline_at=desk.now + timedelta(seconds=series.deadline_s),
    )
    if is_mine:
        desk.rounds.set_cohort(record.id, cohort)
        desk.announce(
            KEEPER_TOPIC, round_topic(record.id), *(device_topic(chosen.device_id) for chosen in cohort)
        )
    return is_mine


def apply_due_change(desk: RoundWork, round_id: str) -> PhaseChange | None:
    """Apply the change of phase that is due for a round, if one is; return it."""
    record = desk.rounds.find(round_id)
    change = None if record is None else due_change(record.progress, now=desk.now)
    if record is None or change is None:
        return None
    if change.to is RoundPhase.ABANDONED:
        return change if close_round(desk, record, change) else None
    if not desk.rounds.change_phase(record, change.to):
        return None
    desk.announce(KEEPER_TOPIC, round_topic(record.id))
    return change


def close_round(
    desk: RoundWork,
    record: RoundRecord,
    change: PhaseChange,
    *,
    next_base: BaseVersion | None = None,
    is_cancelled: bool = False,
) -> bool:
    """End a round, and open the next one of its series if one follows; ``False`` if it has moved on.

    Args:
        next_base: What the round produced, if it did; otherwise the next one starts from the same base.
        is_cancelled: Whether the series ends here.
    """
    following = None
    if opens_another(
        round_number=record.round_number, num_rounds=record.series.num_rounds, is_cancelled=is_cancelled
    ):
        following = RoundRecord(
            id=new_id("round"),
            org_id=desk.org_id,
            series=record.series,
            round_number=record.round_number + 1,
            base_version=next_base.version if next_base else record.base_version,
            base_digest=next_base.digest if next_base else record.base_digest,
            phase=RoundPhase.SELECTING,
            created_at=desk.now,
        )
    is_mine = desk.rounds.change_phase(
        record,
        change.to,
        ended_at=desk.now,
        reason=change.reason,
        new_version=next_base.version if next_base else None,
        next_round_id=following.id if following else None,
        lease_owner=None,
        lease_expires_at=None,
    )
    if not is_mine:
        return False
    if following is not None and desk.rounds.add(following):
        _draw(desk, following)
    desk.announce(KEEPER_TOPIC, round_topic(record.id))
    return True


def cancel(desk: RoundWork, round_id: str) -> RoundRecord:
    """Abandon a round and end its series; cancelling it again changes nothing.

    Raises:
        AbsentError: The organization has no such round.
        ContradictionError: The round was completed already.
    """
    while True:
        record = desk.rounds.get(round_id)
        if record.phase is RoundPhase.COMPLETED:
            raise ContradictionError(
                f"the round has produced version {record.new_version!r} and cannot be cancelled any more; "
                f"cancel the one that follows it ({record.next_round_id or 'there is none'})"
            )
        if record.phase in ENDED_PHASES:
            return record
        close_round(
            desk,
            record,
            PhaseChange(RoundPhase.ABANDONED, reason="an operator cancelled it"),
            is_cancelled=True,
        )


def uses_version(session: Session, org_id: str, model_id: str, version: str | None) -> bool:
    """Return whether an active round still needs a version, or any version of the model."""
    return RoundRepository(session, org_id).uses_model(model_id, version)


def phases_named(status: str | None) -> Collection[RoundPhase]:
    """Return the phases that a ``status`` in a query stands for: one phase, ``active`` or ``ended``.

    Raises:
        InvalidContentError: It stands for none.
    """
    named = {"active": ACTIVE_PHASES, "ended": ENDED_PHASES, "all": frozenset(RoundPhase)}
    if status is None:
        return frozenset(RoundPhase)
    if status in named:
        return named[status]
    if status in set(RoundPhase):
        return frozenset({RoundPhase(status)})
    allowed = ", ".join([*named, *RoundPhase])
    raise InvalidContentError(f"status is {status[:40]!r}; use one of {allowed}")


def assignment_of(record: RoundRecord) -> RoundAssignment:
    """Return a round as its devices see it."""
    return RoundAssignment.model_validate(
        {
            "round_id": record.id,
            "id": record.id,
            "model_id": record.model_id,
            "version": record.base_version,
            "state": record.phase.value,
            "config": _config_of(record),
            "base_digest": record.base_digest,
            "round_number": record.round_number,
            "num_rounds": record.series.num_rounds,
            "deadline_at": record.deadline_at,
        }
    )


def status_of(record: RoundRecord) -> RoundStatus:
    """Return how far a round is."""
    return RoundStatus.model_validate(
        {
            **assignment_of(record).model_dump(),
            "num_selected": record.num_selected,
            "num_updates": record.num_updates,
            "num_samples": record.num_samples,
            "min_updates": record.series.min_updates,
            "new_version": record.new_version,
            "next_round_id": record.next_round_id,
            "reason": record.reason,
        }
    )


def _config_of(record: RoundRecord) -> RoundConfig:
    return announced_config(record.series.config, model_id=record.model_id, version=record.base_version)
