"""Devices over real sockets: the token says which device, and to whom it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest

from edgeml_client.schemas import Device
from edgeml_client.testing import FakeClock
from edgeml_server import EmbeddedServer, Settings


def registration(org: str, identifier: str = "mri-3", **more: object) -> dict[str, object]:
    return {"org_id": org, "device_identifier": identifier, **more}


def test_a_device_registers_and_is_found(enrol: Callable[..., httpx.Client], org: str) -> None:
    device = enrol("mri-3")
    facts = {
        "platform": "linux",
        "os_version": "6.1",
        "sdk_version": "1",
        "app_version": "2",
        "metadata": {"ward": "a"},
        "capabilities": {"training": True},
        "feature_schema": ["age", "height"],
    }

    answer = device.post("/devices/register", json=registration(org, **facts))

    assert answer.status_code == 201
    found = device.get(f"/devices/{answer.json()['id']}").json()
    assert found == answer.json()
    assert found.items() >= (facts | {"org_id": org, "device_identifier": "mri-3"}).items()


def test_one_token_is_one_device_whatever_identifier_it_reports(
    enrol: Callable[..., httpx.Client], org: str, operator: httpx.Client
) -> None:
    device = enrol("mri-3")

    first = device.post("/devices/register", json=registration(org, "client-1a2b"))
    again = device.post("/devices/register", json=registration(org, "client-3c4d"))

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert again.json()["device_identifier"] == "mri-3"
    assert again.json()["metadata"] == {"reported_identifier": "client-3c4d"}
    assert operator.get("/devices").json()["total"] == 1


@pytest.mark.parametrize(
    ("field", "at_the_limit"),
    [
        ("metadata", {"a": "x" * (16 * 1024 - len('{"a": ""}'))}),
        ("capabilities", {"a": "é" * ((16 * 1024 - len('{"a": "x"}')) // 2) + "x"}),
        ("feature_schema", ["x" * (64 * 1024 - len('[""]'))]),
    ],
)
def test_what_a_device_says_of_itself_is_bounded(
    enrol: Callable[..., httpx.Client], org: str, field: str, at_the_limit: object
) -> None:
    """16 KiB as JSON, in UTF-8; 64 KiB for the names of features. One byte more is refused, and not kept."""
    device = enrol("mri-3")
    longer = json.loads(json.dumps(at_the_limit).replace("x", "xx", 1))

    kept = device.post("/devices/register", json=registration(org, **{field: at_the_limit}))
    refused = device.post("/devices/register", json=registration(org, **{field: longer}))

    assert kept.status_code == 201
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_content")
    assert f"the {field} of a device may have" in refused.json()["detail"]
    assert device.get(f"/devices/{kept.json()['id']}").json()[field] == at_the_limit


def test_registering_for_another_organization_is_not_found(enrol: Callable[..., httpx.Client]) -> None:
    answer = enrol().post("/devices/register", json=registration("somebody-else"))

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_operator_registers_the_device_it_names(operator: httpx.Client, org: str) -> None:
    answers = [operator.post("/devices/register", json=registration(org, name)) for name in ("a", "b", "a")]

    assert [answer.status_code for answer in answers] == [201, 201, 200]
    assert answers[0].json()["id"] == answers[2].json()["id"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/groups"), ("PUT", "/heartbeat")])
class TestOthersDevices:
    def test_are_not_found(
        self, method: str, path: str, enrol: Callable[..., httpx.Client], org: str
    ) -> None:
        mine, other = enrol("mine"), enrol("other")
        theirs = other.post("/devices/register", json=registration(org)).json()["id"]

        assert mine.request(method, f"/devices/{theirs}{path}").status_code == 404

    def test_of_another_organization_look_like_those_that_do_not_exist(
        self, method: str, path: str, operator: httpx.Client, server: EmbeddedServer
    ) -> None:
        foreign = server.create_operator_token(org_id="somebody-else")
        theirs = operator.post(
            "/devices/register",
            json=registration("somebody-else"),
            headers={"Authorization": f"Bearer {foreign}"},
        ).json()["id"]

        found = operator.request(method, f"/devices/{theirs}{path}")
        absent = operator.request(method, f"/devices/dev_nothing{path}")

        assert (found.status_code, absent.status_code) == (404, 404)
        assert found.json()["detail"].replace(theirs, "dev_nothing") == absent.json()["detail"]


def test_a_device_is_in_no_group_until_groups_can_be_made(
    enrol: Callable[..., httpx.Client], org: str
) -> None:
    device = enrol()
    device_id = device.post("/devices/register", json=registration(org)).json()["id"]

    assert device.get(f"/devices/{device_id}/groups").json() == []


def test_operators_list_devices_by_identifier_in_pages(operator: httpx.Client, org: str) -> None:
    for name in ("c", "a", "b"):
        operator.post("/devices/register", json=registration(org, name))

    page = operator.get("/devices", params={"limit": 2, "offset": 1}).json()

    assert [device["device_identifier"] for device in page["devices"]] == ["b", "c"]
    assert page["total"] == 3


def test_devices_do_not_list_each_other(enrol: Callable[..., httpx.Client]) -> None:
    assert enrol().get("/devices").status_code == 403


class TestLastSeen:
    @pytest.fixture
    def timed(self, tmp_path: Path, clock: FakeClock) -> Iterator[EmbeddedServer]:
        with EmbeddedServer(tmp_path, clock=clock, settings=Settings(last_seen_resolution_s=60)) as running:
            yield running

    @pytest.fixture
    def device(self, timed: EmbeddedServer) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=timed.api_base) as client:
            token = timed.create_bootstrap_token(org_id="clinic-a")
            state = client.post(
                "/device-auth/bootstrap",
                json=registration("clinic-a") | {"access_ttl_seconds": 3600},
                headers={"Authorization": f"Bearer {token}"},
            ).json()
            client.headers["Authorization"] = f"Bearer {state['access_token']}"
            client.post("/devices/register", json=registration("clinic-a"))
            yield client

    def seen(self, timed: EmbeddedServer) -> datetime | None:
        with httpx.Client(base_url=timed.api_base) as client:
            token = timed.create_operator_token(org_id="clinic-a")
            page = client.get("/devices", headers={"Authorization": f"Bearer {token}"}).json()
        return Device.model_validate(page["devices"][0]).last_seen_at

    def test_moves_with_any_call_of_the_device(
        self, timed: EmbeddedServer, device: httpx.Client, clock: FakeClock
    ) -> None:
        clock.advance(60)
        device.get("/models")

        assert self.seen(timed) == clock.now()

    def test_is_not_rewritten_for_every_call(
        self, timed: EmbeddedServer, device: httpx.Client, clock: FakeClock
    ) -> None:
        before = clock.now()
        clock.advance(59)
        device.get("/models")

        assert self.seen(timed) == before

    def test_moves_with_each_heartbeat(
        self, timed: EmbeddedServer, device: httpx.Client, clock: FakeClock
    ) -> None:
        device_id = device.post("/devices/register", json=registration("clinic-a")).json()["id"]
        clock.advance(1)

        answer = device.put(f"/devices/{device_id}/heartbeat", json={"battery": 0.7})

        assert answer.status_code == 200
        assert self.seen(timed) == clock.now()


@pytest.mark.parametrize(
    "facts",
    [
        {"metadata": {"x": "\ud800"}},
        {"capabilities": {"\ud800": 1}},
        {"feature_schema": ["\ud800"]},
        {"platform": "\ud800"},
    ],
)
def test_half_a_character_is_refused_and_not_stored(
    facts: dict[str, object], enrol: Callable[..., httpx.Client], org: str, operator: httpx.Client
) -> None:
    """It could be stored escaped, but no answer with it could be sent."""
    body = json.dumps(registration(org, **facts))

    answer = enrol().post("/devices/register", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422, answer.text
    assert operator.get("/devices").json()["total"] == 0


def test_an_offset_that_no_database_counts_to_is_refused(operator: httpx.Client) -> None:
    for path in ("/devices", "/models", "/training/rounds"):
        assert operator.get(path, params={"offset": 2**63}).status_code == 422
