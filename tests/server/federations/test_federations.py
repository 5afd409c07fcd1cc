"""Federations by name, and what is honestly known about their privacy."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from edgeml_server import EmbeddedServer
from tests.server.rounds.fleet import Fleet, fleet_on


@pytest.fixture
def fleet(server: EmbeddedServer) -> Iterator[Fleet]:
    with fleet_on(server) as made:
        yield made


def test_a_federation_is_made_once_and_found_by_name(operator: httpx.Client, org: str) -> None:
    made = operator.post("/federations", json={"org_id": org, "name": "hospitals"})
    again = operator.post("/federations", json={"org_id": org, "name": "hospitals"})
    operator.post("/federations", json={"name": "banks"})

    found = operator.get("/federations", params={"org_id": org, "name": "hospitals"}).json()
    everything = operator.get("/federations").json()

    assert (made.status_code, again.status_code) == (201, 200)
    assert found == [made.json()] == [again.json()]
    assert [federation["name"] for federation in everything] == ["banks", "hospitals"]


def test_organizations_are_invited_as_often_as_one_likes(operator: httpx.Client) -> None:
    federation_id = operator.post("/federations", json={"name": "f"}).json()["id"]

    answers = [
        operator.post(f"/federations/{federation_id}/invite", json={"org_ids": ["a", "b"]}) for _ in range(2)
    ]

    invited = [{"org_id": "a", "status": "invited"}, {"org_id": "b", "status": "invited"}]
    assert [answer.json() for answer in answers] == [invited, invited]


def test_without_a_mechanism_epsilon_is_unknown_and_not_zero(operator: httpx.Client) -> None:
    federation_id = operator.post("/federations", json={"name": "f"}).json()["id"]

    report = operator.get(f"/federations/{federation_id}/privacy").json()

    assert report["federation_id"] == federation_id
    assert report["mechanism"] == "none"
    assert report["epsilon_spent"] is None
    assert report["remaining_budget"] is None
    assert "no differential privacy mechanism has run" in report["detail"]


def test_another_organization_sees_nothing(operator: httpx.Client, fleet: Fleet, org: str) -> None:
    federation_id = operator.post("/federations", json={"name": "f"}).json()["id"]
    stranger = fleet.operator

    assert stranger.get("/federations").json() == []
    assert stranger.get("/federations", params={"org_id": org}).status_code == 404
    assert stranger.post("/federations", json={"org_id": org, "name": "g"}).status_code == 404
    assert stranger.get(f"/federations/{federation_id}/privacy").status_code == 404
    assert stranger.post(f"/federations/{federation_id}/invite", json={"org_ids": []}).status_code == 404


def test_devices_look_but_do_not_make(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    federation_id = fleet.operator.post("/federations", json={"name": "f"}).json()["id"]

    assert device.http.get(f"/federations/{federation_id}/privacy").status_code == 200
    assert device.http.post("/federations", json={"name": "g"}).status_code == 403
