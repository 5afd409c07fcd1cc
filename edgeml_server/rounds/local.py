"""Rounds without HTTP, for whoever runs the control plane itself: the embedded server, the command line."""

from __future__ import annotations

from edgeml_client.schemas import RoundStatus
from edgeml_server.errors import AbsentError
from edgeml_server.plane import ControlPlane
from edgeml_server.rounds.announcements import round_topic
from edgeml_server.rounds.bases import find_base
from edgeml_server.rounds.bodies import CreateRoundRequest
from edgeml_server.rounds.overview import find_anywhere
from edgeml_server.rounds.phases import ENDED_PHASES
from edgeml_server.rounds.records import RoundRecord
from edgeml_server.rounds.repository import WHERE_ROUNDS_ARE_LISTED
from edgeml_server.rounds.service import RoundWork, cancel, create_series, status_of

__all__ = ["cancel_round", "open_series", "read_round", "wait_for_end"]

_LOOK_AGAIN_S = 1.0


def open_series(plane: ControlPlane, org_id: str, request: CreateRoundRequest) -> RoundStatus:
    """Open a series of rounds of an organization.

    Raises:
        AbsentError: There is no such model or version.
        ContradictionError: The version cannot be trained.
        InvalidContentError: The config cannot work.
    """
    with plane.database.unit_of_work() as work:
        desk = RoundWork(work, org_id, plane.clock.now(), plane.announcements)
        base = find_base(work.session, org_id, request.model_id, request.version)
        return status_of(create_series(desk, request, base))


def read_round(plane: ControlPlane, round_id: str) -> RoundStatus:
    """Return how far a round of any organization is.

    Raises:
        AbsentError: There is no such round.
    """
    return status_of(_get(plane, round_id))


def cancel_round(plane: ControlPlane, round_id: str) -> RoundStatus:
    """Abandon a round of any organization and end its series.

    Raises:
        AbsentError: There is no such round.
        ContradictionError: It was completed already.
    """
    org_id = _get(plane, round_id).org_id
    with plane.database.unit_of_work() as work:
        desk = RoundWork(work, org_id, plane.clock.now(), plane.announcements)
        return status_of(cancel(desk, round_id))


def wait_for_end(plane: ControlPlane, round_id: str, *, timeout_s: float) -> RoundStatus:
    """Return a round of any organization once it is completed or abandoned.

    Raises:
        AbsentError: There is no such round.
        TimeoutError: It has not ended within ``timeout_s`` seconds.
    """
    ends_at = plane.clock.monotonic_s() + timeout_s
    with plane.announcements.listening_in_thread(round_topic(round_id)) as listener:
        while (record := _get(plane, round_id)).phase not in ENDED_PHASES:
            left_s = ends_at - plane.clock.monotonic_s()
            if left_s <= 0:
                raise TimeoutError(
                    f"{round_id} is still {record.phase} after {timeout_s:g} s: it has "
                    f"{record.num_updates} of {record.num_selected} updates and needs "
                    f"{record.series.min_updates}"
                )
            listener.heard(timeout_s=min(left_s, _LOOK_AGAIN_S))
    return status_of(record)


def _get(plane: ControlPlane, round_id: str) -> RoundRecord:
    with plane.database.snapshot() as session:
        found = find_anywhere(session, round_id)
    if found is None:
        raise AbsentError(f"there is no round {round_id!r}; {WHERE_ROUNDS_ARE_LISTED}")
    return found
