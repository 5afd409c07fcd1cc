"""FederatedClient speaks the wire contract, with old control planes and new ones."""

import asyncio
import base64
import pickle  # noqa: TID251 - to show that a client refuses it
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeml_client import AsyncFederatedClient, FederatedClient
from edgeml_client.errors import (
    ConfigurationError,
    ConnectionFailedError,
    InvalidResponseError,
    NotFoundError,
    RoundStateError,
    ServerFailedError,
    WaitTimeoutError,
)
from edgeml_client.testing import Reply
from edgeml_client.updates import encode_model
from edgeml_client.updates.torch_format import loads_state_dict
from tests.client.federated.scripted_plane import STATE, ScriptedPlane


def test_a_device_registers_once(plane: ScriptedPlane, client: FederatedClient) -> None:
    assert client.device_id is None

    assert client.register(feature_schema=["age", "dose"]) == client.register() == client.device_id == "dev-1"

    (request,) = plane.server.requests("POST", "/devices/register")
    assert request.headers["authorization"] == "Bearer token"
    assert (
        request.json.items() >= {"org_id": "org", "device_identifier": "device", "platform": "python"}.items()
    )
    assert request.json["feature_schema"] == ["age", "dose"]


def test_settings_come_from_the_environment_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEML_API_BASE", "http://127.0.0.1:1/api/v1")
    monkeypatch.setenv("EDGEML_ORG_ID", "from-environment")
    monkeypatch.setenv("EDGEML_DEVICE_ID", "mri-3")

    with FederatedClient() as client, FederatedClient(org_id="explicit") as other:
        assert client.api_base == "http://127.0.0.1:1/api/v1"
        assert (client.org_id, client.device_identifier) == ("from-environment", "mri-3")
        assert (other.org_id, other.device_identifier) == ("explicit", "mri-3")
        assert (
            repr(client) == "FederatedClient(api_base='http://127.0.0.1:1/api/v1', org_id='from-environment')"
        )


def test_secure_aggregation_is_refused_rather_than_left_out(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"secure_aggregation": True})

    with pytest.raises(ConfigurationError, match="secure aggregation"):
        client.participate_in_round("r-1", lambda state: pytest.fail("trained"))
    with pytest.raises(ConfigurationError, match="secure aggregation"):
        FederatedClient(secure_aggregation=True)


def test_a_client_does_not_travel_between_processes(client: FederatedClient) -> None:
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(client)


OLD_ROUND = {"id": "r-9", "model_id": "m-1", "version": "3", "state": "active", "config": {}, "more": 1}


@pytest.mark.parametrize("answer", [[OLD_ROUND], {"rounds": [OLD_ROUND]}])
def test_an_assignment_may_come_as_a_list_or_in_an_object(
    plane: ScriptedPlane, client: FederatedClient, answer: object
) -> None:
    plane.server.on("GET", "/training/rounds", Reply.of_json(answer))

    assignment = client.get_round_assignment()

    assert assignment is not None
    assert assignment.round_id == "r-9"
    assert assignment["more"] == 1
    (request,) = plane.server.requests("GET", "/training/rounds")
    assert request.query == {"device_id": "dev-1", "status": "active"}


def test_assignments_can_be_asked_for_one_model(plane: ScriptedPlane, client: FederatedClient) -> None:
    assert client.get_round_assignment(model="digits") is not None
    assert client.get_round_assignment(model="m-1") is not None
    assert client.get_round_assignment(model="another") is None


def test_no_assignment_is_none(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("GET", "/training/rounds", Reply.of_json([]))

    assert client.get_round_assignment() is None


def test_a_new_control_plane_is_asked_to_hold_its_answer(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    assert client.get_round_assignment(wait_s=60) is not None

    assert plane.server.requests("GET", "/training/rounds")[-1].query["wait_s"] == "20.0"


def test_an_old_one_is_asked_now_and_then(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.announce()
    plane.server.on("GET", "/training/rounds", *[Reply.of_json([])] * 3)

    assert client.get_round_assignment(wait_s=30) is None

    requests = plane.server.requests("GET", "/training/rounds")
    assert len(requests) > 3
    assert all("wait_s" not in request.query for request in requests)


def test_a_model_is_looked_up_by_its_name_alone(plane: ScriptedPlane, client: FederatedClient) -> None:
    """Not among the first page of all models, where it may be missing."""
    plane.offer({})

    assert client.get_round_assignment(model="digits") is not None

    (asked,) = plane.server.requests("GET", "/models")
    assert (asked.query["name"], asked.query["org_id"]) == ("digits", client.org_id)


def test_waiting_for_a_round_ends_with_the_round(plane: ScriptedPlane, client: FederatedClient) -> None:
    ended = Reply.of_json({"round_id": "r-1", "state": "completed", "new_version": "4"})
    plane.server.on(
        "GET", "/training/rounds/r-1/status", Reply.of_json({"id": "r-1", "state": "training"}), ended
    )

    assert client.wait_for_round("r-1", timeout_s=60).new_version == "4"
    assert plane.server.requests("GET", "/training/rounds/r-1/status")[0].query["until"] == "ended"
    assert client.get_round_status("r-1", wait_s=5)["state"] == "completed"


def test_a_round_that_does_not_end_in_time_is_an_error_or_a_status(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    with pytest.raises(WaitTimeoutError, match="within 30 s"):
        client.wait_for_round("r-1", timeout_s=30)
    assert client.get_round_status("r-1", wait_s=1).state == "training"


def test_models_are_found_by_name(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("GET", "/models/m-1/versions/7/download", Reply(body=b"file"))

    assert client.pull_model("digits") == b"file"
    assert client.pull_model("m-1", version="7", format="safetensors") == b"file"

    first, second = plane.server.requests("GET", "/models/m-1/versions/7/download")
    assert (first.query["format"], second.query["format"]) == ("pytorch", "safetensors")


@pytest.mark.parametrize("capabilities", [(), ("models.safetensors",)])
def test_a_global_model_is_the_same_from_an_old_control_plane(
    plane: ScriptedPlane, client: FederatedClient, capabilities: tuple[str, ...]
) -> None:
    plane.announce(*capabilities)

    model = client.pull_global_model("digits", version="3")

    assert model.version == "3"
    assert model.data == encode_model(STATE)


def test_what_is_no_model_is_an_invalid_response(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("GET", "/models/m-1/versions/3/download", Reply(body=b"<html>proxy</html>"))

    with pytest.raises(InvalidResponseError, match="version '3' of model 'm-1'"):
        client.pull_global_model("digits", version="3")


def test_an_unknown_round_says_so(plane: ScriptedPlane, client: FederatedClient) -> None:
    with pytest.raises(NotFoundError):
        client.join_round("r-404")


def test_a_round_that_has_ended_cannot_be_joined(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.offer(state="completed")

    with pytest.raises(RoundStateError, match="completed: ask for the next assignment"):
        client.join_round("r-1")


def test_a_round_without_a_version_takes_the_latest(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.offer(version=None)

    assert client.join_round("r-1").assignment.version == "7"


def test_a_round_without_a_model_cannot_be_joined(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.offer(model_id=None)

    with pytest.raises(InvalidResponseError, match="no model for round 'r-1'"):
        client.join_round("r-1")


def test_no_server_there_is_one_clear_error(tmp_path: Path) -> None:
    with (
        FederatedClient(
            lambda: "token", "org", "http://127.0.0.1:9/api/v1", "device", state_dir=tmp_path, max_attempts=1
        ) as client,
        pytest.raises(ConnectionFailedError, match="no answer from"),
    ):
        client.register()


def test_a_personal_model_goes_up_and_comes_down(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("POST", "/training/personalized/dev-1", Reply.of_json({"status": "stored"}))
    client.upload_personalized_update({"w": np.ones(2)}, {"acc": 0.5, "bad": float("nan")})

    sent = plane.server.requests("POST", "/training/personalized/dev-1")[0].json
    assert sent["metrics"] == {"acc": 0.5}
    assert sent["format"] == "safetensors"

    plane.server.on("GET", "/training/personalized/dev-1", Reply.of_json(sent | {"device_id": "dev-1"}))
    assert client.get_personalized_state("numpy")["w"].tolist() == [1, 1]


def test_an_old_control_plane_gets_the_torch_saved_form(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.announce()
    plane.server.on("POST", "/training/personalized/dev-1", Reply.of_json({}))
    client.upload_personalized_update({"w": torch.ones(2)})
    client.upload_personalized_update(b"already a file")

    first, second = (
        request.json for request in plane.server.requests("POST", "/training/personalized/dev-1")
    )
    state = loads_state_dict(base64.b64decode(first["weights_data"]), max_bytes=10_000)
    assert state["w"].tolist() == [1, 1]
    assert "format" not in first
    assert base64.b64decode(second["weights_data"]) == b"already a file"

    plane.server.on(
        "GET", "/training/personalized/dev-1", Reply.of_json({"weights_data": first["weights_data"]})
    )
    assert client.get_personalized_state()["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    "answer", [{}, {"weights_data": "%%%"}, {"weights_data": "AAAA", "format": "safetensors"}]
)
def test_a_personal_model_that_cannot_be_read_says_so(
    plane: ScriptedPlane, client: FederatedClient, answer: dict[str, str]
) -> None:
    plane.server.on("GET", "/training/personalized/dev-1", Reply.of_json(answer))

    with pytest.raises(InvalidResponseError, match="personal model"):
        client.get_personalized_state()


def test_a_personal_model_is_a_state_or_a_file(client: FederatedClient) -> None:
    with pytest.raises(ConfigurationError, match="a state dict or bytes, not list"):
        client.upload_personalized_update([1.0])  # type: ignore[arg-type]


def test_the_privacy_budget_is_read_as_it_is(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("GET", "/federations/f-1/privacy", Reply.of_json({"epsilon_spent": 1.5}))

    assert client.get_privacy_budget("f-1")["epsilon_spent"] == 1.5


def test_ids_from_users_cannot_reach_other_addresses(plane: ScriptedPlane, client: FederatedClient) -> None:
    with pytest.raises(NotFoundError):
        client.get_round_status("../../devices")

    assert plane.server.exchanges[-1].path == "/api/v1/training/rounds/..%2F..%2Fdevices/status"


def test_a_device_keeps_its_things_in_a_folder_of_its_own(client: FederatedClient, tmp_path: Path) -> None:
    assert client.device_dir == tmp_path / "state" / "dev-1"


def test_by_default_that_folder_is_in_the_users_state(
    plane: ScriptedPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    with FederatedClient(lambda: "token", "clinic/a", plane.server.api_base) as client:
        assert client.device_dir.parts[-2:] == ("clinic%2Fa", "dev-1")


def test_a_control_plane_that_fails_is_not_taken_for_an_old_one(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.server.on("GET", "/health", Reply.of_json({"detail": "starting"}, status=503))

    with pytest.raises(ServerFailedError, match="starting"):
        client.pull_global_model("digits", version="3")


def test_an_html_page_in_place_of_health_announces_nothing(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.announce()
    plane.server.on("GET", "/health", Reply(body=b"<html>"))

    assert client.pull_global_model("digits", version="3").data == encode_model(STATE)


def test_bytes_are_counted(plane: ScriptedPlane, client: FederatedClient) -> None:
    client.pull_global_model("digits", version="3")

    assert client.num_bytes_received > len(plane.model_file)


def test_the_async_twin_does_the_same(plane: ScriptedPlane, tmp_path: Path) -> None:
    def train(state: dict[str, object]) -> tuple[dict[str, object], int, None]:
        return state, 3, None

    async def take_part() -> str:
        async with AsyncFederatedClient(
            lambda: "token", "org", plane.server.api_base, "device", state_dir=tmp_path
        ) as client:
            assignment = await client.get_round_assignment(model="digits", wait_s=5)
            assert assignment is not None
            assert client.device_id == "dev-1"
            return (await client.participate_in_round(assignment.round_id, train)).status

    assert asyncio.run(take_part()) == "accepted"
