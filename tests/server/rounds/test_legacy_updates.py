"""Updates in the legacy form: base64 of a torch-saved state dict, with and without a round."""

from __future__ import annotations

import base64
import io
import sys
from typing import Any

import httpx
import numpy as np
import pytest
import torch

from edgeml_server import EmbeddedServer
from tests.server.rounds.fleet import Fleet, FleetDevice, fleet_on


def saved(state: object) -> str:
    stream = io.BytesIO()
    torch.save(state, stream)
    return base64.b64encode(stream.getvalue()).decode()


def state_of(value: float = 1.0, **changes: Any) -> dict[str, Any]:
    good = {"w": torch.full((2, 3), value), "b": torch.full((3,), value), "steps": torch.tensor(1)}
    return {name: array for name, array in (good | changes).items() if array is not None}


def send(device: FleetDevice, state: object = None, **changes: Any) -> httpx.Response:
    """Send a good legacy delta with changes; for its first assignment, if it has one."""
    assignments = device.assignments()
    place = {key: assignments[0][key] for key in ("model_id", "version", "round_id")} if assignments else {}
    body = {
        "device_id": device.id,
        "sample_count": 10,
        "update_format": "delta",
        "weights_data": saved(state_of() if state is None else state),
        **place,
        **changes,
    }
    return device.http.post("/training/weights", json={k: v for k, v in body.items() if v is not None})


def test_a_delta_and_the_weights_it_came_from_mean_the_same(fleet: Fleet) -> None:
    """The base is zero, so weights of 3 are a delta of 3: mean (1 * 10 + 3 * 30) / 40 = 2.5."""
    one, two = fleet.add_devices(2)
    round_id = fleet.open_round(min_updates=2)

    assert send(one, state_of(1.0)).json()["status"] == "accepted"
    assert send(two, state_of(3.0), update_format="weights", sample_count=30).status_code == 201
    fleet.server.wait_for_round(round_id, timeout_s=60)

    model = fleet.model("2")
    assert np.all(model["w"] == 2.5)
    assert model["steps"] == 7


def test_legacy_and_binary_updates_meet_in_one_round(fleet: Fleet) -> None:
    one, two = fleet.add_devices(2)
    round_id = fleet.open_round(min_updates=2)

    send(one, state_of(1.0))
    two.answer(3.0)
    fleet.server.wait_for_round(round_id, timeout_s=60)

    assert np.all(fleet.model("2")["b"] == 2.0)


def test_the_head_of_a_round_may_stay_on_the_device(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round(config={"head_layers": ["b"]})

    answer = send(device, state_of(b=None, steps=None))
    fleet.server.wait_for_round(round_id, timeout_s=60)

    assert answer.status_code == 201
    assert np.all(fleet.model("2")["w"] == 1.0)
    assert np.all(fleet.model("2")["b"] == 0.0)


def test_what_older_filters_do_to_dtypes_is_put_right(fleet: Fleet) -> None:
    """They return float64, and counters with noise on them: the numbers are read, the counters are not."""
    (device,) = fleet.add_devices(1)
    round_id = fleet.open_round()

    answer = send(device, state_of(w=torch.full((2, 3), 0.5, dtype=torch.float64), steps=torch.tensor(0.3)))
    fleet.server.wait_for_round(round_id, timeout_s=60)

    assert answer.status_code == 201
    assert np.all(fleet.model("2")["w"] == 0.5)


@pytest.fixture(scope="module")
def standing(server: EmbeddedServer) -> Any:
    with fleet_on(server) as fleet:
        device, _ = fleet.add_devices(2)
        fleet.open_round(min_updates=2)
        yield fleet, device


@pytest.mark.parametrize(
    ("state", "changes", "status_code", "sentence"),
    [
        (state_of(b=None), {}, 422, "missing b: F32[3]"),
        (state_of(x=torch.ones(1)), {}, 422, "unexpected x"),
        (state_of(w=torch.ones(3, 2)), {}, 422, "w: expected shape [2, 3], got [3, 2]"),
        (state_of(w=torch.full((2, 3), torch.nan)), {}, 422, "array 'w' holds NaN or Inf"),
        (state_of(w=torch.full((2, 3), torch.inf)), {"update_format": "weights"}, 422, "NaN or Inf"),
        (state_of(w=torch.ones(2, 3, dtype=torch.int64)), {}, 422, "floating"),
        ([1, 2, 3], {}, 422, "not a state dict"),
        ({"w": "text"}, {}, 422, "entry 'w' is a str"),
        (torch.nn.Linear(2, 2), {}, 422, "save model.state_dict()"),
        (None, {"weights_data": "no base64!"}, 422, "is not base64"),
        (None, {"weights_data": base64.b64encode(b"\x80\x04N.").decode()}, 422, "not a torch-saved"),
        (None, {"weights_data": "A" * 400_000}, 422, "at most"),
        (None, {"sample_count": 0}, 422, "sample_count is 0"),
        (None, {"sample_count": -1}, 422, "sample_count"),
        (None, {"version": "0"}, 412, "this round starts from '1'"),
        (None, {"model_id": "mdl_x"}, 422, "this round trains"),
        (None, {"round_id": "round_x"}, 404, "there is no round"),
        (None, {"device_id": "dev_x"}, 404, "there is no device"),
        (None, {"update_format": "sum"}, 422, "update_format"),
        (None, {"weights_data": None}, 422, "weights_data"),
    ],
)
def test_a_bad_legacy_update_is_refused_and_changes_nothing(
    standing: tuple[Fleet, FleetDevice],
    state: object,
    changes: dict[str, Any],
    status_code: int,
    sentence: str,
) -> None:
    fleet, device = standing
    round_id = device.assignments()[0]["round_id"]

    answer = send(device, state, **changes)

    assert answer.status_code == status_code, answer.text
    assert sentence in answer.json()["detail"]
    assert fleet.status(round_id)["num_updates"] == 0


def test_a_body_cut_short_is_told_so(standing: tuple[Fleet, FleetDevice]) -> None:
    _, device = standing

    answer = device.http.post(
        "/training/weights", content=b'{"model_id": "m', headers={"Content-Type": "application/json"}
    )

    assert answer.status_code == 400
    assert "cut short" in answer.json()["detail"]


def test_without_torch_the_answer_names_the_binary_form(
    standing: tuple[Fleet, FleetDevice], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, device = standing
    weights_data = saved(state_of())
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed

    answer = send(device, weights_data=weights_data, state=0)

    assert answer.status_code == 415
    assert "POST /training/rounds/{round_id}/updates" in answer.json()["detail"]


def test_without_a_round_the_same_update_waits_once_until_it_is_aggregated(fleet: Fleet) -> None:
    one, two = fleet.add_devices(2)
    place = {"model_id": fleet.model_id, "version": "1"}
    answers = [send(one, state_of(1.0), **place), send(one, state_of(1.0), **place)]
    answers.append(send(two, state_of(3.0), update_format="weights", **place))

    too_few = fleet.operator.post("/training/aggregate", json={"model_id": "m", "min_updates": 3})
    made = fleet.operator.post("/training/aggregate", json={"model_id": "m", "new_version": "mean-1"})
    again = fleet.operator.post("/training/aggregate", json={"model_id": "m", "base_version": "1"})

    assert [answer.json()["status"] for answer in answers] == ["accepted", "duplicate", "accepted"]
    assert too_few.status_code == 409
    assert "2 updates wait for version '1', but min_updates is 3" in too_few.json()["detail"]
    assert (made.json()["new_version"], made.json()["num_updates"]) == ("mean-1", 2)
    assert again.status_code == 409
    assert np.all(fleet.model("latest")["w"] == 2.0)


def test_an_average_need_not_be_published(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    send(device, model_id="m", version="1")

    made = fleet.operator.post("/training/aggregate", json={"model_id": fleet.model_id, "publish": False})

    assert (made.json()["new_version"], made.json()["status"]) == ("2", "draft")
    latest = fleet.operator.get(f"/models/{fleet.model_id}/versions/latest").json()
    assert latest["version"] == "1"


@pytest.mark.parametrize(
    ("body", "status_code"),
    [
        ({"model_id": "none"}, 404),
        ({"base_version": "none"}, 404),
        ({"strategy": "krum"}, 422),
        ({"new_version": "a/b"}, 422),
        ({"new_version": "1"}, 409),
    ],
)
def test_an_average_that_cannot_be_made_is_refused(
    fleet: Fleet, body: dict[str, Any], status_code: int
) -> None:
    (device,) = fleet.add_devices(1)
    assert send(device, model_id="m", version="1").status_code == 201

    answer = fleet.operator.post("/training/aggregate", json={"model_id": "m", **body})
    afterwards = fleet.operator.post("/training/aggregate", json={"model_id": "m"})

    assert answer.status_code == status_code, answer.text
    assert afterwards.json()["num_updates"] == 1


def test_an_update_for_an_unknown_model_or_version_is_not_found(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)

    assert send(device, model_id="none", version="1").status_code == 404
    assert send(device, model_id="m", version="9").status_code == 404


def test_an_average_that_overflows_makes_no_version(fleet: Fleet) -> None:
    """Two deltas of 3e38 overflow the float32 sum."""
    for device in fleet.add_devices(2):
        assert send(device, state_of(3e38), model_id="m", version="1", sample_count=1).status_code == 201

    answer = fleet.operator.post("/training/aggregate", json={"model_id": "m"})

    assert answer.status_code == 422
    assert "would hold NaN or Inf" in answer.json()["detail"]
