"""Inference events on the wire: the newest of each organization are kept, as they came."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, JsonValue

from edgeml_server._http.dependencies import Caller, Plane
from edgeml_server.domain import Domain
from edgeml_server.errors import BodyTooLargeError
from edgeml_server.inference.repository import InferenceEventRepository

__all__ = ["DOMAIN", "MAX_EVENTS", "MAX_EVENT_CHARACTERS"]

router = APIRouter(prefix="/inference", tags=["inference"])

MAX_EVENTS: Final = 10_000
"""Events kept for each organization."""

MAX_EVENT_CHARACTERS: Final = 16_384


class EventReceipt(BaseModel):
    """``POST /inference/events``."""

    status: str = "stored"


@router.post("/events", status_code=202)
def report_event(body: dict[str, JsonValue], plane: Plane, caller: Caller) -> EventReceipt:
    """Keep an event; it may be any object of moderate size."""
    if len(str(body)) > MAX_EVENT_CHARACTERS:
        raise BodyTooLargeError(
            f"an inference event has at most {MAX_EVENT_CHARACTERS} characters; leave out the output itself"
        )
    with plane.database.unit_of_work() as work:
        InferenceEventRepository(work.session, caller.org_id).add(
            body, device_identifier=caller.device_identifier, now=plane.clock.now(), keep=MAX_EVENTS
        )
    return EventReceipt()


DOMAIN: Final = Domain(routers=(router,))
