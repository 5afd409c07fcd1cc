"""Models over real sockets."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import numpy as np
import pytest

from edgeml_server import EmbeddedServer

STATE = {"w": np.zeros(2, np.float32)}
DIGITS = {"name": "digits", "description": "d", "framework": "pytorch", "use_case": "vision"}


def test_a_model_is_created_found_and_listed(operator: httpx.Client, org: str) -> None:
    contracts = {"model_contract": {"in": 64}, "data_contract": {"rows": "any"}}

    created = operator.post("/models", json=DIGITS | contracts | {"org_id": org})

    assert created.status_code == 201
    model = created.json()
    assert model.items() >= (DIGITS | contracts | {"org_id": org}).items()
    assert operator.get(f"/models/{model['id']}").json() == model
    assert operator.get("/models", params={"org_id": org}).json() == {"models": [model], "total": 1}


def test_devices_read_models_of_their_organization(
    operator: httpx.Client, enrol: Callable[..., httpx.Client]
) -> None:
    model = operator.post("/models", json=DIGITS).json()

    assert enrol().get(f"/models/{model['id']}").json() == model


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["a", "b", "c"]),
        ({"framework": "pytorch"}, ["a", "c"]),
        ({"use_case": "text"}, ["c"]),
        ({"name": "b"}, ["b"]),
        ({"limit": 1, "offset": 1}, ["b"]),
        ({"offset": 9}, []),
    ],
)
def test_the_list_is_by_name_filtered_and_paged(
    operator: httpx.Client, query: dict[str, str], names: list[str]
) -> None:
    for name, framework, use_case in (("c", "pytorch", "text"), ("a", "pytorch", ""), ("b", "onnx", "")):
        operator.post("/models", json={"name": name, "framework": framework, "use_case": use_case})

    page = operator.get("/models", params=query).json()

    assert [model["name"] for model in page["models"]] == names


def test_fields_the_control_plane_does_not_know_are_kept_and_answered(operator: httpx.Client) -> None:
    model = operator.post("/models", json=DIGITS).json()

    changed = operator.patch(
        f"/models/{model['id']}", json={"description": "new", "architecture": {"target_col": "y"}}
    )

    assert changed.status_code == 200
    found = operator.get(f"/models/{model['id']}").json()
    assert (found["description"], found["architecture"]) == ("new", {"target_col": "y"})
    assert found["name"] == "digits"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"id": "x"}, "id of a model cannot be changed"),
        ({"org_id": "x"}, "org_id of a model cannot be changed"),
        ({"name": ""}, "name"),
        ({"framework": 7}, "framework"),
    ],
)
def test_what_cannot_be_changed_is_named(
    operator: httpx.Client, change: dict[str, object], found: str
) -> None:
    model = operator.post("/models", json=DIGITS).json()

    answer = operator.patch(f"/models/{model['id']}", json=change)

    assert answer.status_code == 422
    assert found in answer.json()["detail"]


def test_a_name_is_given_once(operator: httpx.Client) -> None:
    operator.post("/models", json=DIGITS)
    other = operator.post("/models", json=DIGITS | {"name": "faces"}).json()

    again = operator.post("/models", json=DIGITS)
    renamed = operator.patch(f"/models/{other['id']}", json={"name": "digits"})

    assert (again.status_code, renamed.status_code) == (409, 409)
    assert "digits" in again.json()["detail"]


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "a\x00b"}, {"name": "x" * 256}, {"name": 1}, []])
def test_a_body_that_is_no_model_is_refused(operator: httpx.Client, body: object) -> None:
    answer = operator.post("/models", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_content")


def test_numbers_that_json_has_not_are_refused(operator: httpx.Client) -> None:
    answer = operator.post(
        "/models",
        content=b'{"name": "a", "model_contract": {"max": Infinity}}',
        headers={"Content-Type": "application/json"},
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_content")


def test_a_deleted_model_is_gone_with_its_versions(
    server: EmbeddedServer, operator: httpx.Client, org: str
) -> None:
    version = server.register_model(org_id=org, name="digits", state=STATE)
    address = f"/models/{version['model_id']}"

    assert operator.delete(address).status_code == 204

    for path in ("", "/versions", "/versions/1", "/versions/latest", "/versions/1/download"):
        assert operator.get(address + path).status_code == 404
    assert operator.delete(address).status_code == 404


def test_another_organizations_models_cannot_be_told_from_none(
    server: EmbeddedServer, operator: httpx.Client
) -> None:
    theirs = server.register_model(org_id="somebody-else", name=f"m-{id(operator)}", state=STATE)
    address = f"/models/{theirs['model_id']}"

    calls = [
        operator.get(address),
        operator.patch(address, json={"description": "mine"}),
        operator.delete(address),
        operator.get(f"{address}/versions"),
        operator.get(f"{address}/versions/latest"),
        operator.get(f"{address}/versions/1/download", params={"format": "safetensors"}),
        operator.get(f"{address}/versions/1/download-url", params={"format": "safetensors"}),
        operator.post(f"{address}/versions/1/publish", json={}),
        operator.post(f"{address}/versions/upload", files={"file": ("m.onnx", b"x")}, data={"version": "2"}),
        operator.get("/models", params={"org_id": "somebody-else"}),
    ]

    assert {call.status_code for call in calls} == {404}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "optimize"), ("GET", "optimized-config/iphone_15_pro"), ("GET", "compatibility")],
)
def test_what_is_not_offered_says_so(operator: httpx.Client, method: str, path: str) -> None:
    model = operator.post("/models", json=DIGITS).json()

    answer = operator.request(method, f"/models/{model['id']}/{path}")

    assert (answer.status_code, answer.json()["code"]) == (501, "not_offered")
    assert "convert the model yourself" in answer.json()["detail"]
