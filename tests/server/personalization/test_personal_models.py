"""A device keeps its personal model on the control plane, out of everybody else's reach."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client.updates.model_file import GlobalModel, encode_model
from edgeml_server import EmbeddedServer
from tests.server.rounds.fleet import Fleet, FleetDevice, fleet_on

STATE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(3)}


@pytest.fixture
def fleet(server: EmbeddedServer) -> Iterator[Fleet]:
    with fleet_on(server) as made:
        yield made


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def torch_saved(state: object) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


def keep(device: FleetDevice, **body: Any) -> Any:
    return device.http.post(f"/training/personalized/{device.id}", json=body)


def get(device: FleetDevice, **params: str) -> Any:
    return device.http.get(f"/training/personalized/{device.id}", params=params)


def test_what_is_kept_comes_back_in_the_form_asked_for(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    kept = keep(
        device, weights_data=base64_of(encode_model(STATE)), format="safetensors", metrics={"acc": 0.5}
    )

    ours, theirs = get(device, format="safetensors").json(), get(device).json()

    assert kept.json()["status"] == "stored"
    assert (ours["format"], theirs["format"]) == ("safetensors", "pytorch")
    assert ours["metrics"] == {"acc": 0.5}
    model = GlobalModel(base64.b64decode(ours["weights_data"]))
    loaded = torch.load(io.BytesIO(base64.b64decode(theirs["weights_data"])), weights_only=True)  # noqa: TID251 - what users do
    for name, array in STATE.items():
        np.testing.assert_array_equal(model.array(name), array)
        np.testing.assert_array_equal(loaded[name], array)


def test_a_torch_saved_model_is_kept_like_any_other(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)

    keep(device, weights_data=base64_of(torch_saved({"w": torch.ones(2)})))

    model = GlobalModel(base64.b64decode(get(device, format="safetensors").json()["weights_data"]))
    assert model.array("w").tolist() == [1, 1]


def test_the_newest_replaces_the_one_before(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)
    for value in (1.0, 2.0):
        keep(device, weights_data=base64_of(encode_model({"w": np.float32([value])})))

    model = GlobalModel(base64.b64decode(get(device, format="safetensors").json()["weights_data"]))

    assert model.array("w").tolist() == [2.0]


def test_neither_another_device_nor_an_operator_reaches_it(fleet: Fleet) -> None:
    mine, other = fleet.add_devices(2)
    keep(mine, weights_data=base64_of(encode_model(STATE)))
    path = f"/training/personalized/{mine.id}"

    answers = [client.get(path) for client in (other.http, fleet.operator)]
    answers.append(other.http.post(path, json={"weights_data": base64_of(encode_model(STATE))}))

    assert [answer.status_code for answer in answers] == [404] * 3


def test_a_device_that_keeps_none_is_told_to_upload_one(fleet: Fleet) -> None:
    (device,) = fleet.add_devices(1)

    answer = get(device)

    assert answer.status_code == 404
    assert "upload one first" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status_code", "sentence"),
    [
        ({"weights_data": "?"}, 422, "not base64"),
        ({"weights_data": base64_of(b"x" * 50)}, 422, "not a torch-saved state dict"),
        ({"weights_data": base64_of(encode_model(STATE)[:-1])}, 422, "not a good safetensors file"),
        ({"weights_data": base64_of(torch_saved([1]))}, 422, "not a state dict"),
        ({"weights_data": "", "metrics": {f"m{i}": 1.0 for i in range(300)}}, 422, "300 metrics"),
        ({"weights_data": "", "format": "npz"}, 422, "format"),
        ({}, 422, "weights_data"),
    ],
)
def test_what_is_no_state_dict_is_refused(
    fleet: Fleet, body: dict[str, Any], status_code: int, sentence: str
) -> None:
    (device,) = fleet.add_devices(1)

    answer = keep(device, **body)

    assert answer.status_code == status_code
    assert sentence in answer.json()["detail"]


def test_without_torch_the_answers_name_safetensors(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    (device,) = fleet.add_devices(1)
    saved = torch_saved({"w": torch.ones(2)})
    keep(device, weights_data=base64_of(encode_model(STATE)))
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed

    answers = [keep(device, weights_data=base64_of(saved)), get(device)]

    assert [answer.status_code for answer in answers] == [415, 415]
    assert all("format=safetensors" in answer.json()["detail"] for answer in answers)
    assert get(device, format="safetensors").status_code == 200
