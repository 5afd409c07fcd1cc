"""The keeper: one thread per process that moves rounds on when nobody else does.

It sleeps until something is announced, or until the nearest deadline. Everything it does is a
compare-and-set, so several processes may keep the same rounds; what one of them did not finish, because it
died or the disk was full, another one, or the next start, takes up again.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from edgeml_client.schemas import RoundPhase
from edgeml_server.db import UnitOfWork
from edgeml_server.plane import ControlPlane
from edgeml_server.rounds.aggregating import LEASE_S, RoundAggregation
from edgeml_server.rounds.announcements import KEEPER_TOPIC, device_topic, round_topic
from edgeml_server.rounds.deadlines import seconds_until_next
from edgeml_server.rounds.forgetting import forget_updates
from edgeml_server.rounds.overview import ActiveRound, active_rounds, cohort_of, release_leases
from edgeml_server.rounds.service import RoundWork, apply_due_change, draw_waiting_cohorts

__all__ = ["RoundKeeper"]

_LOG = logging.getLogger(__name__)

_LOOK_AGAIN_S: Final = 1.0
"""How long a change that another process made may go unnoticed."""

_AFTER_AN_ERROR_S: Final = 5.0


class RoundKeeper:
    """Draws cohorts, keeps deadlines, aggregates, forgets, and passes on what other processes changed."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"
        self._known: dict[str, ActiveRound] = {}
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeml-round-keeper", daemon=True)

    def start(self) -> None:
        """Begin to work; rounds that a dead process left half aggregated are taken up at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and return once the thread has ended; an aggregation at work is left for the next start."""
        self._is_closing.set()
        self._plane.announcements.announce([KEEPER_TOPIC])
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        with self._plane.announcements.listening_in_thread(KEEPER_TOPIC) as listener:
            self._release_own_leases()
            while not self._is_closing.is_set():
                listener.heard(timeout_s=self._step_safely())

    def _release_own_leases(self) -> None:
        # One process serves a SQLite database: whoever held a lease on it is dead.
        if not self._plane.database.is_sqlite:
            return
        try:
            with self._plane.database.unit_of_work() as work:
                release_leases(work.session)
        except SQLAlchemyError:
            _LOG.exception("cannot release the leases of the process before; they expire in %s s", LEASE_S)

    def _step_safely(self) -> float:
        try:
            return self.step()
        except Exception:  # noqa: BLE001 - a thread that dies would leave every round hanging
            _LOG.exception("the round keeper failed; it tries again in %s s", _AFTER_AN_ERROR_S)
            return _AFTER_AN_ERROR_S

    def step(self) -> float:
        """Do everything that is due now; return after how many seconds to look again."""
        with self._plane.database.snapshot() as session:
            rounds = active_rounds(session)
        self._pass_on_changes(rounds)
        for org_id in sorted({one.org_id for one in rounds if one.phase is RoundPhase.SELECTING}):
            with self._plane.database.unit_of_work() as work:
                draw_waiting_cohorts(self._desk(work, org_id))
        for one in rounds:
            if not self._is_closing.is_set():
                self._move_on(one)
        moments = [moment for one in rounds if (moment := one.next_moment) is not None]
        now = self._plane.clock.now()
        return seconds_until_next((m for m in moments if m > now), now=now, at_most_s=_LOOK_AGAIN_S)

    def _move_on(self, one: ActiveRound) -> None:
        now = self._plane.clock.now()
        if one.next_moment is not None and now < one.next_moment:
            return
        if one.phase is RoundPhase.TRAINING:
            with self._plane.database.unit_of_work() as work:
                apply_due_change(self._desk(work, one.org_id), one.round_id)
        elif one.phase is RoundPhase.AGGREGATING:
            RoundAggregation(self._plane, one.org_id, one.round_id, owner=self._owner).run(
                should_stop=self._is_closing.is_set
            )

    def _pass_on_changes(self, rounds: tuple[ActiveRound, ...]) -> None:
        """Announce what changed since the last step; this process's own changes are announced twice."""
        known, self._known = self._known, {one.round_id: one for one in rounds}
        changed = [one for one in rounds if known.get(one.round_id) != one]
        ended = known.keys() - self._known.keys()
        self._plane.announcements.announce([round_topic(round_id) for round_id in ended])
        for round_id in ended:
            forget_updates(self._plane, round_id)
        self._plane.announcements.announce([round_topic(one.round_id) for one in changed])
        for one in changed:
            before = known.get(one.round_id)
            if one.phase is RoundPhase.TRAINING and (before is None or before.phase is not one.phase):
                with self._plane.database.snapshot() as session:
                    cohort = cohort_of(session, one.round_id)
                self._plane.announcements.announce([device_topic(device_id) for device_id in cohort])

    def _desk(self, work: UnitOfWork, org_id: str) -> RoundWork:
        return RoundWork(work, org_id, self._plane.clock.now(), self._plane.announcements)
