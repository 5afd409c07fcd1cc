"""Forgetting the updates of rounds that have ended.

A single device's update tells more about its data than the average does, and disks fill up: once a round
has ended, only the figures of its updates are kept. A crash may leave files behind; they do no harm.
"""

from __future__ import annotations

import logging

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from edgeml_server.plane import ControlPlane
from edgeml_server.registry.tables import VersionFileRow
from edgeml_server.rounds.phases import ENDED_PHASES
from edgeml_server.rounds.tables import RoundRow, UpdateRow

__all__ = ["forget_updates"]

_LOG = logging.getLogger(__name__)


def forget_updates(plane: ControlPlane, round_id: str) -> None:
    """Delete the update files of a round that has ended, unless something else is the very same file."""
    with plane.database.snapshot() as session:
        digests = _forgettable(session, round_id)
    for digest in digests:
        try:
            plane.blobs.delete(digest)
        except OSError:
            _LOG.warning("cannot delete an update file of %s", round_id, exc_info=True)


def _forgettable(session: Session, round_id: str) -> tuple[str, ...]:
    is_a_model = exists().where(VersionFileRow.digest == UpdateRow.blob_digest)
    return tuple(
        session.scalars(
            select(UpdateRow.blob_digest)
            .join(RoundRow, RoundRow.id == UpdateRow.round_id)
            .where(RoundRow.id == round_id, RoundRow.phase.in_(sorted(ENDED_PHASES)), ~is_a_model)
        )
    )
