"""A series of rounds over HTTP: assignment, updates, the next version, the next round."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest

from edgeml_server import EmbeddedServer
from edgeml_server.errors import AbsentError, ContradictionError, InvalidContentError
from edgeml_server.rounds import waiting as waiting_in_an_endpoint
from tests.server.rounds.fleet import Fleet, fleet_on


def test_a_round_makes_the_next_version_from_the_weighted_mean(fleet: Fleet) -> None:
    """(1 * 10 + 4 * 30) / 40 = 3.25 on every number; the counter stays 7."""
    one, two = fleet.add_devices(2)
    round_id = fleet.open_round(min_updates=2)

    assert one.answer(1.0, sample_count=10, metrics={"loss": 1.0}).status_code == 201
    assert two.answer(4.0, sample_count=30, metrics={"loss": 2.0}).status_code == 201
    status = fleet.server.wait_for_round(round_id, timeout_s=30)

    assert (status.state, status.new_version, status.num_samples) == ("completed", "2", 40)
    model = fleet.model("2")
    assert np.all(model["w"] == 3.25)
    assert np.all(model["b"] == 3.25)
    assert model["steps"] == 7
    described = fleet.operator.get(f"/models/{fleet.model_id}/versions/2").json()
    assert described["metrics"] == {"loss": 1.75}
    assert described["round_id"] == round_id
    assert described["status"] == "published"


def test_a_series_goes_on_from_each_new_version_until_its_last_round(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id: str | None = fleet.open_round(num_rounds=3)

    numbers, versions = [], []
    while round_id is not None:
        (assignment,) = device.assignments()
        numbers.append((assignment["round_number"], assignment["num_rounds"]))
        versions.append(assignment["version"])
        assert device.answer(1.0).status_code == 201
        round_id = fleet.server.wait_for_round(assignment["round_id"], timeout_s=30).next_round_id

    assert numbers == [(1, 3), (2, 3), (3, 3)]
    assert versions == ["1", "2", "3"]
    assert np.all(fleet.model("latest")["w"] == 3.0)
    assert device.assignments() == []


def test_a_device_is_asked_once_and_only_if_it_was_drawn(fleet: Fleet) -> None:
    devices = fleet.add_devices(4)
    round_id = fleet.open_round(cohort_size=2, seed=3)

    drawn = [device for device in devices if device.assignments()]
    assert len(drawn) == 2
    assert drawn[0].answer().status_code == 201

    assert drawn[0].assignments() == []
    assert len(drawn[1].assignments()) == 1
    outsider = next(device for device in devices if device not in drawn)
    assignment = drawn[1].assignments()[0]
    assert outsider.send(round_id, outsider.update(assignment)).status_code == 404


def test_the_same_seed_draws_the_same_devices_by_name(server: EmbeddedServer) -> None:
    drawn = []
    for _ in range(2):
        with fleet_on(server) as fleet:
            devices = fleet.add_devices(6)
            fleet.open_round(cohort_size=3, seed=11)
            drawn.append([device.name for device in devices if device.assignments()])

    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 3


def test_a_round_waits_for_devices_and_begins_when_the_last_one_asks(fleet: Fleet) -> None:
    round_id = fleet.open_round(min_updates=3)
    first, second = fleet.add_devices(2)
    assert first.assignments() == second.assignments() == []
    assert fleet.status(round_id)["state"] == "selecting"

    (third,) = fleet.add_devices(1)

    assert len(third.assignments()) == 1
    assert len(first.assignments()) == 1
    assert fleet.status(round_id)["num_selected"] == 3


def test_a_device_whose_tokens_were_revoked_is_not_drawn(fleet: Fleet) -> None:
    kept, gone = fleet.add_devices(2)
    gone.revoke()

    round_id = fleet.open_round()

    assert fleet.status(round_id)["num_selected"] == 1
    assert len(kept.assignments()) == 1


def test_whoever_waits_for_an_assignment_is_answered_when_a_round_opens(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    answers: list[list[dict[str, Any]]] = []
    waiting = threading.Thread(target=lambda: answers.append(device.assignments(wait_s=30)))
    waiting.start()
    _wait_for_listener(fleet.server, f"device:{device.id}")

    round_id = fleet.open_round()
    waiting.join()

    assert [assignment["round_id"] for assignment in answers[0]] == [round_id]


def test_whoever_waits_for_the_next_round_is_answered_when_the_last_one_is_aggregated(fleet: Fleet) -> None:
    one, two = fleet.add_devices(2)
    fleet.open_round(num_rounds=2, min_updates=2)
    one.answer()
    answers: list[list[dict[str, Any]]] = []
    waiting = threading.Thread(target=lambda: answers.append(one.assignments(wait_s=30)))
    waiting.start()
    _wait_for_listener(fleet.server, f"device:{one.id}")

    two.answer()
    waiting.join()

    assert answers[0][0]["round_number"] == 2


def test_whoever_waits_for_the_end_of_a_round_is_answered_with_its_result(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round()
    answers: list[dict[str, Any]] = []
    path, params = f"/training/rounds/{round_id}/status", {"wait_s": 30, "until": "ended"}
    waiting = threading.Thread(target=lambda: answers.append(device.http.get(path, params=params).json()))
    waiting.start()
    _wait_for_listener(fleet.server, f"round:{round_id}")

    device.assignments()
    device.answer()
    waiting.join()

    assert (answers[0]["state"], answers[0]["new_version"]) == ("completed", "2")


@pytest.mark.parametrize("waits_for", ["an assignment", "the end of a round"])
def test_who_waits_is_turned_away_when_its_tokens_are_revoked(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, waits_for: str
) -> None:
    """Looked at every 5 s, here 20 ms; without that, the answer would come after 30 s, as 200."""
    monkeypatch.setattr(waiting_in_an_endpoint, "_LOOK_AGAIN_S", 0.02)
    waiting_one, other = fleet.add_devices(2)
    round_id = fleet.open_round(min_updates=2)
    waiting_one.answer()
    path, params, topic = {
        "an assignment": ("/training/rounds", {}, f"device:{waiting_one.id}"),
        "the end of a round": (
            f"/training/rounds/{round_id}/status",
            {"until": "ended"},
            f"round:{round_id}",
        ),
    }[waits_for]
    answers: list[httpx.Response] = []
    ask = partial(waiting_one.http.get, path, params={"wait_s": 30, **params})
    waiting = threading.Thread(target=lambda: answers.append(ask()))
    waiting.start()
    _wait_for_listener(fleet.server, topic)

    waiting_one.revoke()
    waiting.join()

    assert answers[0].status_code == 401
    assert "revoked" in answers[0].json()["detail"]
    assert len(other.assignments()) == 1


def test_a_closing_server_answers_those_who_wait() -> None:
    answers: list[list[dict[str, Any]]] = []
    with EmbeddedServer() as server, fleet_on(server) as fleet:
        (device,) = fleet.add_devices(1)
        waiting = threading.Thread(target=lambda: answers.append(device.assignments(wait_s=30)))
        waiting.start()
        _wait_for_listener(server, f"device:{device.id}")

        server.close()
        waiting.join()

    assert answers == [[]]


def test_an_operator_cancels_a_series_and_sees_it_in_the_list(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round(num_rounds=5)
    assignment = device.assignments()[0]

    cancelled = fleet.operator.post(f"/training/rounds/{round_id}/cancel").json()
    again = fleet.operator.post(f"/training/rounds/{round_id}/cancel")

    assert (cancelled["state"], cancelled["next_round_id"]) == ("abandoned", None)
    assert cancelled["reason"] == "an operator cancelled it"
    assert again.json() == cancelled
    assert device.send(round_id, device.update(assignment)).status_code == 410
    listed = {
        status: [entry["round_id"] for entry in _listed(fleet, status)]
        for status in ("abandoned", "ended", "all", "active", "training")
    }
    assert listed == {
        "abandoned": [round_id],
        "ended": [round_id],
        "all": [round_id],
        "active": [],
        "training": [],
    }


def test_a_completed_round_cannot_be_cancelled(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round()
    device.answer()
    fleet.server.wait_for_round(round_id, timeout_s=30)

    answer = fleet.operator.post(f"/training/rounds/{round_id}/cancel")

    assert answer.status_code == 409
    assert "has produced version '2'" in answer.json()["detail"]


def test_creating_a_round_twice_with_one_key_creates_it_once(fleet: Fleet) -> None:
    body, headers = {"model_id": fleet.model_id}, {"Idempotency-Key": "k-1"}

    first = fleet.operator.post("/training/rounds", json=body, headers=headers)
    second = fleet.operator.post("/training/rounds", json=body, headers=headers)
    other = fleet.operator.post("/training/rounds", json=body)

    assert first.status_code == 201
    assert first.json()["id"] == first.json()["round_id"]
    assert first.json() == second.json()
    assert other.json()["round_id"] != first.json()["round_id"]


_NOISE = {"type": "gaussian_noise", "sigma": 0.1}


@pytest.mark.parametrize(
    ("body", "status_code", "sentence"),
    [
        ({"model_id": "nothing"}, 404, "there is no model 'nothing'"),
        ({"version": "9"}, 404, "no version '9'"),
        ({"config": {"secure_aggregation": True}}, 422, "no secure aggregation"),
        ({"config": {"proximal_muu": 1}}, 422, "unknown keys proximal_muu"),
        ({"config": {"proximal_mu": -1}}, 422, "proximal_mu"),
        ({"config": {"lambda_ditto": -0.1}}, 422, "lambda_ditto"),
        ({"config": {"filters": [{"type": "gradient_clp"}]}}, 422, "there is no filter 'gradient_clp'"),
        ({"config": {"filters": [{"type": "gradient_clip", "norm": 1}]}}, 422, "max_norm"),
        (
            {"config": {"filters": [_NOISE, {"type": "gradient_clip", "max_norm": 1}]}},
            422,
            "'gradient_clip' may not follow 'gaussian_noise': noise hides an update only if its norm",
        ),
        (
            {"config": {"clip_norm": 1.0, "filters": [_NOISE, {"type": "sparsification", "top_k": 0.1}]}},
            422,
            "write 'sparsification' before 'gaussian_noise'",
        ),
        ({"config": {"head_layers": ["classifier"]}}, 422, "'classifier', but no array"),
        ({"cohort_size": 1, "min_updates": 2}, 422, "cohort_size 1 is below min_updates 2"),
        ({"num_rounds": 0}, 422, "num_rounds"),
        ({"deadline_s": 0}, 422, "deadline_s"),
        ({"norm_bound": "mean"}, 422, "norm_bound"),
        ({"surprise": 1}, 422, "surprise"),
    ],
)
def test_a_round_that_cannot_work_is_refused_when_it_is_created(
    fleet: Fleet, body: dict[str, Any], status_code: int, sentence: str
) -> None:
    answer = fleet.operator.post("/training/rounds", json={"model_id": fleet.model_id, **body})

    assert answer.status_code == status_code
    assert sentence in answer.json()["detail"]
    assert _listed(fleet, "all") == []


def test_a_device_may_not_open_or_cancel_rounds(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round()

    assert device.http.post("/training/rounds", json={"model_id": fleet.model_id}).status_code == 403
    assert device.http.post(f"/training/rounds/{round_id}/cancel").status_code == 403
    assert device.http.post("/training/aggregate", json={"model_id": fleet.model_id}).status_code == 403


def test_another_organization_sees_nothing_of_a_round(fleet: Fleet, server: EmbeddedServer) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round()
    assignment = device.assignments()[0]

    with fleet_on(server) as others:
        (stranger,) = others.add_devices(1)
        refusals = [
            stranger.http.get(f"/training/rounds/{round_id}/status"),
            stranger.http.get("/training/rounds", params={"device_id": device.id}),
            stranger.send(round_id, stranger.update(assignment)),
            others.operator.post(f"/training/rounds/{round_id}/cancel"),
            others.operator.post("/training/rounds", json={"model_id": fleet.model_id}),
            others.operator.get("/training/rounds", params={"device_id": device.id}),
        ]

        assert [answer.status_code for answer in refusals] == [404] * 6
        assert all(answer.json()["detail"] for answer in refusals)
        assert _listed(others, "all") == []


def test_a_device_asks_for_itself_and_for_active_rounds_only(fleet: Fleet) -> None:
    one, two = fleet.add_devices(2)
    fleet.open_round()

    assert one.http.get("/training/rounds", params={"device_id": two.id}).status_code == 404
    assert one.http.get("/training/rounds", params={"status": "completed"}).status_code == 422
    assert len(one.http.get("/training/rounds").json()) == 1
    assert len(fleet.operator.get("/training/rounds", params={"device_id": two.id}).json()) == 1
    assert fleet.operator.get("/training/rounds", params={"status": "sleeping"}).status_code == 422


def test_a_version_that_a_round_needs_is_not_deleted(fleet: Fleet) -> None:
    round_id = fleet.open_round()

    refused = fleet.operator.delete(f"/models/{fleet.model_id}/versions/1")
    also_refused = fleet.operator.delete(f"/models/{fleet.model_id}")
    fleet.server.cancel_round(round_id)
    allowed = fleet.operator.delete(f"/models/{fleet.model_id}")

    assert (refused.status_code, also_refused.status_code) == (409, 409)
    assert allowed.status_code < 300


def test_rounds_refuse_what_secure_aggregation_clients_send(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round()
    path = f"/training/rounds/{round_id}/secagg"

    answers = [device.http.get(f"{path}/session", params={"device_id": device.id})]
    answers += [device.http.post(f"{path}/{step}", content=b"x") for step in ("shares", "masked", "unmask")]

    assert [answer.status_code for answer in answers] == [409] * 4
    assert all("does not use secure aggregation" in answer.json()["detail"] for answer in answers)
    assert device.http.get("/training/rounds/none/secagg/session").status_code == 404


def test_the_embedded_server_tells_the_same_without_http(fleet: Fleet) -> None:
    round_id = fleet.open_round(num_rounds=2, config={"proximal_mu": 0.1})

    assert fleet.server.get_round(round_id).config.proximal_mu == 0.1
    with pytest.raises(TimeoutError, match="still selecting after 0 s"):
        fleet.server.wait_for_round(round_id, timeout_s=0)
    assert fleet.server.cancel_round(round_id).state == "abandoned"
    assert fleet.server.wait_for_round(round_id, timeout_s=30).state == "abandoned"
    with pytest.raises(AbsentError, match="there is no round"):
        fleet.server.get_round("none")
    with pytest.raises(InvalidContentError, match="num_rounds"):
        fleet.open_round(num_rounds=0)
    with pytest.raises(ContradictionError, match="cannot be trained"):
        _open_round_of_a_file_that_is_no_model(fleet)


def _open_round_of_a_file_that_is_no_model(fleet: Fleet) -> None:
    answer = fleet.operator.post(
        f"/models/{fleet.model_id}/versions/upload",
        data={"version": "onnx"},
        files={"file": ("m.onnx", b"x")},
    )
    answer.raise_for_status()
    fleet.open_round(version="onnx")


def _listed(fleet: Fleet, status: str) -> list[dict[str, Any]]:
    answer: httpx.Response = fleet.operator.get("/training/rounds", params={"status": status})
    rounds: list[dict[str, Any]] = answer.raise_for_status().json()
    return rounds


def _wait_for_listener(server: EmbeddedServer, topic: str) -> None:
    """Return once a request waits on a topic; the test's own time-out ends a wait in vain."""
    pause = threading.Event()
    while topic not in server.plane.announcements.topics:
        pause.wait(0.005)
