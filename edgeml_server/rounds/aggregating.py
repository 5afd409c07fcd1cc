"""Aggregating one round: claimed by one process, computed from files, published in one transaction."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from edgeml_client.schemas import RoundPhase
from edgeml_server.aggregation import (
    Contribution,
    DivergedError,
    RunningMean,
    average_updates,
    write_next_version,
)
from edgeml_server.blobs import BlobStore, StoredBlob
from edgeml_server.db import UnitOfWork
from edgeml_server.plane import ControlPlane
from edgeml_server.registry.repository import VersionRepository
from edgeml_server.registry.versions import publish_version
from edgeml_server.rounds.bases import BaseVersion, find_base
from edgeml_server.rounds.deadlines import PhaseChange
from edgeml_server.rounds.records import RoundRecord, UpdateRecord
from edgeml_server.rounds.repository import RoundRepository
from edgeml_server.rounds.service import RoundWork, close_round
from edgeml_server.rounds.update_repository import UpdateRepository
from edgeml_server.rounds.versions import next_version

__all__ = ["LEASE_S", "MAX_ATTEMPTS", "RoundAggregation", "contributions_of", "free_version", "mean_metrics"]

_LOG = logging.getLogger(__name__)

LEASE_S: Final = 15.0
"""How long a process that aggregates may be silent before another one takes over."""

_LEASE: Final = timedelta(seconds=LEASE_S)

MAX_ATTEMPTS: Final = 8
"""Tries, crashes among them, before a round is given up."""


class _StoppedError(Exception):
    """The process is going down, or another one took over: leave everything as it is."""


class RoundAggregation:
    """One try to turn a round's updates into the next version.

    Nothing is visible before the last transaction: a process that dies leaves the round to be taken up
    again, from the same files in the same order, with the same result to the bit.
    """

    def __init__(self, plane: ControlPlane, org_id: str, round_id: str, *, owner: str) -> None:
        self._plane = plane
        self._org_id = org_id
        self._round_id = round_id
        self._owner = owner

    def run(self, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Aggregate the round, if it is there to be claimed; a failure is logged and left for a later try."""
        record = self._claim()
        if record is None:
            return
        if record.num_attempts > MAX_ATTEMPTS:
            self._give_up(
                record, f"aggregation did not succeed in {MAX_ATTEMPTS} tries; the server's log says why"
            )
            return
        self._aggregate_and_settle(record, should_stop=should_stop)

    def _aggregate_and_settle(self, record: RoundRecord, *, should_stop: Callable[[], bool]) -> None:
        try:
            self._aggregate(record, should_stop)
        except _StoppedError:
            self._let_go(record, after_s=0.0)
        except DivergedError as exc:
            self._give_up(record, str(exc))
        except Exception:  # noqa: BLE001 - whatever it is, the round must not hang: it is tried again, and given up in the end
            _LOG.exception("%s: try %s to aggregate failed", self._round_id, record.num_attempts)
            self._let_go(record, after_s=min(2.0 ** (record.num_attempts - 1), LEASE_S))

    def _claim(self) -> RoundRecord | None:
        now = self._plane.clock.now()
        with self._plane.database.unit_of_work() as work:
            rounds = RoundRepository(work.session, self._org_id)
            is_mine = rounds.claim(self._round_id, owner=self._owner, now=now, until=now + _LEASE)
            return rounds.find(self._round_id) if is_mine else None

    def _renew(self) -> None:
        now = self._plane.clock.now()
        with self._plane.database.unit_of_work() as work:
            rounds = RoundRepository(work.session, self._org_id)
            if not rounds.renew(self._round_id, owner=self._owner, until=now + _LEASE):
                raise _StoppedError

    def _aggregate(self, record: RoundRecord, should_stop: Callable[[], bool]) -> None:
        with self._plane.database.snapshot() as session:
            base = find_base(session, self._org_id, record.model_id, record.base_version)
            updates = UpdateRepository(session, self._org_id).of_round(record.id)
        renew_at = self._plane.clock.monotonic_s() + LEASE_S / 3

        def after_each() -> None:
            nonlocal renew_at
            if should_stop():
                raise _StoppedError
            if self._plane.clock.monotonic_s() >= renew_at:
                self._renew()
                renew_at = self._plane.clock.monotonic_s() + LEASE_S / 3

        mean = average_updates(
            contributions_of(updates, self._plane.blobs),
            base.layout,
            norm_bound=record.series.norm_bound,
            after_each=after_each,
        )
        blob = self._write(base, mean)
        self._publish(record, base, updates, blob)

    def _write(self, base: BaseVersion, mean: RunningMean) -> StoredBlob:
        writer = self._plane.blobs.writer()
        try:
            write_next_version(self._plane.blobs.path(base.digest), mean, writer)
            return writer.commit()
        finally:
            writer.discard()

    def _publish(
        self, record: RoundRecord, base: BaseVersion, updates: Sequence[UpdateRecord], blob: StoredBlob
    ) -> None:
        """Make the version, end the round and open the next one: all of it, or nothing."""
        with self._plane.database.unit_of_work() as work:
            desk = self._desk(work)
            version = free_version(desk, base)
            publish_version(
                work,
                self._org_id,
                base.model_id,
                version=version,
                file=blob,
                layout=base.layout,
                now=desk.now,
                description=f"round {record.round_number} of {record.series.num_rounds}, from {base.version}",
                metrics=mean_metrics(updates),
                attributes={"round_id": record.id, "base_version": base.version},
            )
            produced = BaseVersion(base.model_id, version, blob.digest, base.layout)
            if not close_round(desk, record, PhaseChange(RoundPhase.COMPLETED), next_base=produced):
                raise _StoppedError
        _LOG.info("%s: %s updates made version %s", record.id, len(updates), version)

    def _give_up(self, record: RoundRecord, reason: str) -> None:
        with self._plane.database.unit_of_work() as work:
            close_round(self._desk(work), record, PhaseChange(RoundPhase.ABANDONED, reason=reason))
        _LOG.error("%s is abandoned: %s", record.id, reason)

    def _let_go(self, record: RoundRecord, *, after_s: float) -> None:
        """Let any process try again in ``after_s`` seconds; does nothing if another one took over."""
        until = self._plane.clock.now() + timedelta(seconds=after_s)
        with self._plane.database.unit_of_work() as work:
            RoundRepository(work.session, self._org_id).renew(record.id, owner=self._owner, until=until)

    def _desk(self, work: UnitOfWork) -> RoundWork:
        return RoundWork(work, self._org_id, self._plane.clock.now(), self._plane.announcements)


def free_version(desk: RoundWork, base: BaseVersion) -> str:
    """Return the first name after the base's that the model has no version of."""
    versions = VersionRepository(desk.session, desk.org_id, base.model_id)
    name = next_version(base.version)
    while versions.find(name) is not None:
        name = next_version(name)
    return name


def contributions_of(updates: Sequence[UpdateRecord], blobs: BlobStore) -> tuple[Contribution, ...]:
    """Return the updates as the aggregation reads them, in the same order."""
    return tuple(
        Contribution(blobs.path(held.blob_digest), num_samples=held.sample_count, norm=held.norm)
        for held in updates
    )


def mean_metrics(updates: Sequence[UpdateRecord]) -> dict[str, float]:
    """Return the sample-weighted mean of each metric, over the devices that sent it."""
    names = sorted({name for held in updates for name in held.metrics})
    means: dict[str, float] = {}
    for name in names:
        senders = [held for held in updates if name in held.metrics]
        num_samples = sum(held.sample_count for held in senders)
        means[name] = math.fsum(held.metrics[name] * (held.sample_count / num_samples) for held in senders)
    return means
