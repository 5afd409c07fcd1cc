"""Rounds on the wire: assignments and status for devices, creating and cancelling for operators."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session

from edgeml_client.schemas import Capability, ModelVersion, RoundPhase, RoundStatus
from edgeml_server._http.dependencies import Caller, Plane, RoundOperator, StillTheCaller
from edgeml_server._http.idempotency import IdempotentCall, once
from edgeml_server._http.limits import drain_body
from edgeml_server.auth.principal import Principal
from edgeml_server.devices.service import acting_device
from edgeml_server.domain import Domain
from edgeml_server.errors import AbsentError, ContradictionError, InvalidContentError
from edgeml_server.plane import ControlPlane
from edgeml_server.rounds.announcements import device_topic, round_topic
from edgeml_server.rounds.bases import find_base
from edgeml_server.rounds.bodies import AggregateRequest, CreateRoundRequest
from edgeml_server.rounds.keeper import RoundKeeper
from edgeml_server.rounds.loose_updates import aggregate_loose
from edgeml_server.rounds.phases import ENDED_PHASES
from edgeml_server.rounds.repository import RoundRepository
from edgeml_server.rounds.service import (
    RoundWork,
    cancel,
    create_series,
    draw_waiting_cohorts,
    phases_named,
    status_of,
    uses_version,
)
from edgeml_server.rounds.update_endpoints import router as update_router
from edgeml_server.rounds.waiting import wait_until

__all__ = ["DOMAIN"]

router = APIRouter(prefix="/training", tags=["rounds"])

WaitS = Annotated[float, Query(ge=0, le=3600, allow_inf_nan=False)]


@router.get("/rounds")
async def list_rounds(
    plane: Plane,
    caller: Caller,
    still: StillTheCaller,
    *,
    device_id: str | None = None,
    status: str | None = None,
    wait_s: WaitS = 0.0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> tuple[RoundStatus, ...]:
    """List the rounds that wait for a device; an operator who names no device sees all rounds.

    With ``wait_s`` the answer comes as soon as there is such a round, or empty after that many seconds
    (30 at most).
    """
    if device_id is None and not caller.is_device:
        return _all_rounds(plane, caller, status, limit=limit, offset=offset)
    if status not in {None, "active"}:
        raise InvalidContentError("a device can list its active rounds only; leave out status, or say active")
    device = _device_of(plane, caller, device_id)
    return await wait_until(
        plane.announcements,
        device_topic(device),
        _AssignmentLook(plane, caller.org_id, device),
        wait_s=wait_s,
        check_caller=still,
    )


class _AssignmentLook:
    """Looks for a device's assignments; the first time, cohorts that can be drawn by now are drawn."""

    def __init__(self, plane: ControlPlane, org_id: str, device_id: str) -> None:
        self._plane = plane
        self._org_id = org_id
        self._device_id = device_id
        self._is_first = True

    def __call__(self) -> tuple[RoundStatus, ...]:
        """Return the rounds that wait for the device now."""
        with self._plane.database.snapshot() as session:
            found = self._assigned(session)
            may_draw = self._is_first and RoundRepository(session, self._org_id).in_phases(
                {RoundPhase.SELECTING}, limit=1
            )
        self._is_first = False
        if found or not may_draw:
            return found
        with self._plane.database.unit_of_work() as work:
            draw_waiting_cohorts(
                RoundWork(work, self._org_id, self._plane.clock.now(), self._plane.announcements)
            )
            return self._assigned(work.session)

    def _assigned(self, session: Session) -> tuple[RoundStatus, ...]:
        rounds = RoundRepository(session, self._org_id)
        now = self._plane.clock.now()
        return tuple(status_of(record) for record in rounds.assigned_to(self._device_id, now=now))


@router.get("/rounds/{round_id}/status")
async def round_status(
    round_id: str,
    plane: Plane,
    caller: Caller,
    still: StillTheCaller,
    *,
    wait_s: WaitS = 0.0,
    until: Literal["ended"] = "ended",  # noqa: ARG001 - the one thing that can be waited for
) -> RoundStatus:
    """Say how far a round is; with ``wait_s``, answer as soon as it has ended."""
    latest: list[RoundStatus] = []

    def has_ended() -> bool:
        with plane.database.snapshot() as session:
            record = RoundRepository(session, caller.org_id).get(round_id)
        latest[:] = [status_of(record)]
        return record.phase in ENDED_PHASES

    topic = round_topic(round_id)
    await wait_until(plane.announcements, topic, has_ended, wait_s=wait_s, check_caller=still)
    return latest[0]


@router.post("/rounds", status_code=201)
def create_round(
    body: CreateRoundRequest, plane: Plane, operator: RoundOperator, call: IdempotentCall
) -> RoundStatus:
    """Open a series of rounds."""
    now = plane.clock.now()
    with plane.database.unit_of_work() as work:
        desk = RoundWork(work, operator.org_id, now, plane.announcements)
        return once(work, operator.org_id, call, RoundStatus, partial(_create, desk, body), now=now)


def _create(desk: RoundWork, body: CreateRoundRequest) -> RoundStatus:
    base = find_base(desk.session, desk.org_id, body.model_id, body.version)
    return status_of(create_series(desk, body, base))


@router.post("/rounds/{round_id}/cancel")
def cancel_round(round_id: str, plane: Plane, operator: RoundOperator) -> RoundStatus:
    """Abandon a round and end its series; cancelling it again changes nothing."""
    with plane.database.unit_of_work() as work:
        desk = RoundWork(work, operator.org_id, plane.clock.now(), plane.announcements)
        return status_of(cancel(desk, round_id))


@router.post("/aggregate")
def aggregate(body: AggregateRequest, plane: Plane, operator: RoundOperator) -> ModelVersion:
    """Make a version from the legacy updates that belong to no round."""
    return aggregate_loose(plane, operator.org_id, body)


@router.get("/rounds/{round_id}/secagg/session")
def secagg_session(round_id: str, plane: Plane, caller: Caller) -> None:
    """Refuse: no round of this control plane uses secure aggregation."""
    _refuse_secure_aggregation(plane, caller, round_id)


@router.post("/rounds/{round_id}/secagg/{step}")
async def secagg_step(
    round_id: str,
    step: Literal["shares", "masked", "unmask"],  # noqa: ARG001 - each is refused alike
    plane: Plane,
    caller: Caller,
    request: Request,
) -> None:
    """Refuse: no round of this control plane uses secure aggregation."""
    await drain_body(request.receive)
    _refuse_secure_aggregation(plane, caller, round_id)


def _refuse_secure_aggregation(plane: ControlPlane, caller: Principal, round_id: str) -> None:
    with plane.database.snapshot() as session:
        RoundRepository(session, caller.org_id).get(round_id)
    raise ContradictionError(
        "this round does not use secure aggregation; send the update without it, or leave the round if your "
        "data may only be summed under masks"
    )


def _all_rounds(
    plane: ControlPlane, caller: Principal, status: str | None, *, limit: int, offset: int
) -> tuple[RoundStatus, ...]:
    with plane.database.snapshot() as session:
        rounds = RoundRepository(session, caller.org_id)
        found = rounds.in_phases(phases_named(status), limit=limit, offset=offset)
    return tuple(status_of(record) for record in found)


def _device_of(plane: ControlPlane, caller: Principal, device_id: str | None) -> str:
    if device_id is not None and device_id != caller.device_id:
        with plane.database.snapshot() as session:
            return acting_device(session, caller, device_id).id
    if caller.device_id is None:
        raise AbsentError("this device is not registered yet; POST /devices/register first")
    return caller.device_id


DOMAIN: Final = Domain(
    routers=(router, update_router),
    capabilities=(Capability.ROUNDS_WAIT, Capability.UPDATES_BINARY, Capability.UPDATES_CODED),
    keepers=(RoundKeeper,),
    version_uses=(uses_version,),
)
