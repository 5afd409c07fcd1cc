"""Inference events are kept as they come, and never without bound."""

from __future__ import annotations

import httpx

from edgeml_server import EmbeddedServer
from edgeml_server.inference.repository import InferenceEventRepository


def test_any_event_object_is_kept(operator: httpx.Client, server: EmbeddedServer, org: str) -> None:
    answer = operator.post("/inference/events", json={"event_type": "chunk", "metrics": {"ttfc_ms": 3.5}})

    assert (answer.status_code, answer.json()) == (202, {"status": "stored"})
    with server.plane.database.snapshot() as session:
        assert InferenceEventRepository(session, org).count() == 1


def test_an_event_that_carries_the_output_is_too_large(operator: httpx.Client) -> None:
    answer = operator.post("/inference/events", json={"output": "x" * 20_000})

    assert answer.status_code == 413
    assert "leave out the output itself" in answer.json()["detail"]


def test_the_oldest_events_of_an_organization_make_room(server: EmbeddedServer, org: str) -> None:
    plane = server.plane
    with plane.database.unit_of_work() as work:
        events, others = (InferenceEventRepository(work.session, name) for name in (org, f"{org}-other"))
        others.add({"n": 0}, device_identifier=None, now=plane.clock.now(), keep=3)
        for number in range(5):
            events.add({"n": number}, device_identifier="d", now=plane.clock.now(), keep=3)

        assert events.count() == 3
        assert others.count() == 1
