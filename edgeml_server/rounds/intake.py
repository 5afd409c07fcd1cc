"""Taking in an update: admitted, checked, and counted exactly once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from edgeml_client.updates.layout import Layout
from edgeml_client.updates.update_file import max_update_bytes
from edgeml_server.blobs import StoredBlob
from edgeml_server.db import new_id
from edgeml_server.errors import UnavailableError
from edgeml_server.plane import ControlPlane
from edgeml_server.rounds.acceptance import Arrival, Verdict, check_admission, judge
from edgeml_server.rounds.announcements import round_topic
from edgeml_server.rounds.bases import find_base
from edgeml_server.rounds.records import RoundRecord, UpdateRecord
from edgeml_server.rounds.repository import RoundRepository
from edgeml_server.rounds.service import RoundWork, apply_due_change
from edgeml_server.rounds.update_checks import CheckedUpdate
from edgeml_server.rounds.update_repository import UpdateRepository

__all__ = ["Admission", "Receipt", "Sender", "accept", "admit"]

_MAX_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Sender:
    """The device that sends an update."""

    org_id: str
    device_id: str
    device_identifier: str


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to send an update: the round it is for, and what its arrays must look like."""

    record: RoundRecord
    layout: Layout

    @property
    def max_bytes(self) -> int:
        """How many bytes an update of this round may have."""
        return max_update_bytes(self.layout)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an update that counts."""

    update_id: str
    verdict: Verdict


class _RacedError(Exception):
    """Somebody else changed the facts between the verdict and its application."""


def admit(plane: ControlPlane, sender: Sender, round_id: str) -> Admission:
    """Return what is needed to read the body of an update.

    Raises:
        AbsentError: There is no such round for this device.
        RoundEndedError: The round is closed, and this device has nothing there to repeat.
    """
    with plane.database.snapshot() as session:
        record = RoundRepository(session, sender.org_id).get(round_id)
        check_admission(_arrival(session, sender, record, now=plane.clock.now()))
        base = find_base(session, sender.org_id, record.model_id, record.base_version)
    return Admission(record, base.layout)


def accept(
    plane: ControlPlane,
    sender: Sender,
    round_id: str,
    update: CheckedUpdate,
    *,
    digest: str,
    blob: StoredBlob,
) -> Receipt:
    """Count a checked update whose file is in the blob store; the same one again is not counted twice.

    Args:
        plane: The control plane.
        sender: The device it came from.
        round_id: The round it is for.
        update: What it says about itself.
        digest: The digest of the body as it was sent.
        blob: The update file.

    Raises:
        AbsentError: The device was not chosen for the round.
        ContradictionError: Another update of this device is held.
        RoundEndedError: The round takes no updates any more.
        WrongBaseError: It was computed against another version.
        UnavailableError: Too many others change the round at the same time.
    """
    for _ in range(_MAX_TRIES):
        try:
            with plane.database.unit_of_work() as work:
                desk = RoundWork(work, sender.org_id, plane.clock.now(), plane.announcements)
                return _accept_once(desk, sender, round_id, update, digest=digest, blob=blob)
        except _RacedError:
            continue  # everything was rolled back: look at the facts again
    raise UnavailableError("too many updates arrive at once; send it again in a moment")


def _accept_once(
    desk: RoundWork,
    sender: Sender,
    round_id: str,
    update: CheckedUpdate,
    *,
    digest: str,
    blob: StoredBlob,
) -> Receipt:
    record = desk.rounds.get(round_id)
    updates = UpdateRepository(desk.session, desk.org_id)
    arrival = _arrival(desk.session, sender, record, now=desk.now)
    verdict = judge(arrival, digest=digest, base_digest=update.header.base_digest)
    if verdict is Verdict.DUPLICATE:
        held = updates.find(round_id=round_id, device_id=sender.device_id)
        if held is None:
            raise _RacedError
        return Receipt(held.id, verdict)
    new = UpdateRecord(
        id=new_id("update"),
        round_id=round_id,
        device_id=sender.device_id,
        device_identifier=sender.device_identifier,
        model_id=record.model_id,
        base_version=record.base_version,
        digest=digest,
        blob_digest=blob.digest,
        size_bytes=blob.size_bytes,
        sample_count=update.header.sample_count,
        norm=update.norm,
        metrics=update.header.metrics,
        accepted_at=desk.now,
    )
    if not updates.add(new):
        raise _RacedError
    if not desk.rounds.count_update(round_id, num_samples=new.sample_count, now=desk.now):
        raise _RacedError
    desk.announce(round_topic(round_id))
    apply_due_change(desk, round_id)
    return Receipt(new.id, verdict)


def _arrival(session: Session, sender: Sender, record: RoundRecord, *, now: datetime) -> Arrival:
    held = UpdateRepository(session, sender.org_id).find(round_id=record.id, device_id=sender.device_id)
    return Arrival(
        phase=record.phase,
        deadline_at=record.deadline_at,
        now=now,
        is_in_cohort=RoundRepository(session, sender.org_id).is_in_cohort(record.id, sender.device_id),
        held_digest=None if held is None else held.digest,
        round_base_digest=record.base_digest,
    )
