"""Devices and a control plane together: rounds by any training loop, and devices that die in between."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_client.errors import ConflictError, NotFoundError, RoundClosedError, RoundStateError
from edgeml_client.updates.outbox import Outbox
from edgeml_server import EmbeddedServer
from tests.e2e.devices import ORG, Enrol

STATE = {
    "body.w": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
    "head.w": np.array([0.5], np.float32),
    "steps": np.array(7),
}


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        running.register_model(org_id=ORG, name="digits", state=STATE)
        yield running


def _adding(amount: int, samples: int) -> Callable[[dict[str, Any]], Any]:
    def train(state: dict[str, Any]) -> Any:
        for name in state:
            state[name] += amount
        return state, samples, {"loss": amount}

    return train


def _take_part(client: FederatedClient, train: Callable[[dict[str, Any]], Any]) -> str:
    assignment = client.get_round_assignment(model="digits", wait_s=30)
    assert assignment is not None
    assert client.participate_in_round(assignment.round_id, train).status == "accepted"
    return assignment.round_id


def test_two_rounds_give_the_mean_weighted_by_samples(server: EmbeddedServer, enrol: Enrol) -> None:
    """Deltas 1 with 10 samples and 4 with 20: each round adds (10*1 + 20*4) / 30 = 3; counters stay."""
    clients = [enrol("mri-1"), enrol("mri-2")]
    server.create_round(org_id=ORG, model="digits", num_rounds=2, min_updates=2)

    for _ in range(2):
        round_ids = {_take_part(clients[0], _adding(1, 10)), _take_part(clients[1], _adding(4, 20))}
        (round_id,) = round_ids
        status = clients[0].wait_for_round(round_id, timeout_s=30)
        assert (status.state, status.num_updates, status.num_samples) == ("completed", 2, 30)

    arrays = clients[0].pull_global_model("digits").numpy_arrays()
    assert arrays["body.w"].tolist() == [[7, 8], [9, 10]]
    assert arrays["head.w"].tolist() == [6.5]
    assert arrays["steps"] == 7


def test_many_devices_take_part_at_once(server: EmbeddedServer, enrol: Enrol) -> None:
    clients = [enrol(f"mri-{number}") for number in range(6)]
    opened = server.create_round(org_id=ORG, model="digits", min_updates=6)

    with ThreadPoolExecutor(6) as pool:
        round_ids = set(pool.map(lambda client: _take_part(client, _adding(1, 5)), clients))

    assert round_ids == {opened.round_id}
    assert clients[0].wait_for_round(opened.round_id, timeout_s=30).num_updates == 6
    assert clients[0].pull_global_model("digits").numpy_arrays()["head.w"].tolist() == [1.5]


def test_a_fedper_head_never_reaches_the_control_plane(server: EmbeddedServer, enrol: Enrol) -> None:
    client = enrol("mri-1")
    server.create_round(org_id=ORG, model="digits", config={"head_layers": ["head"]})

    round_id = _take_part(client, _adding(2, 3))
    client.wait_for_round(round_id, timeout_s=30)

    arrays = client.pull_global_model("digits").numpy_arrays()
    assert arrays["head.w"].tolist() == [0.5]
    assert arrays["body.w"].tolist() == [[3, 4], [5, 6]]


def test_the_rounds_clip_bounds_what_arrives(server: EmbeddedServer, enrol: Enrol) -> None:
    """Five deltas of 2 have norm 2 * sqrt(5); clipped to 1, each is 1 / sqrt(5)."""
    client = enrol("mri-1")
    server.create_round(org_id=ORG, model="digits", config={"clip_norm": 1.0})

    client.wait_for_round(_take_part(client, _adding(2, 3)), timeout_s=30)

    change = client.pull_global_model("digits").numpy_arrays()["head.w"] - 0.5
    np.testing.assert_allclose(change, 1 / np.sqrt(5), rtol=1e-5)


def test_the_same_update_again_counts_once_and_another_is_refused(
    server: EmbeddedServer, enrol: Enrol
) -> None:
    client = enrol("mri-1")
    enrol("mri-2")
    round_id = server.create_round(org_id=ORG, model="digits", min_updates=2).round_id
    outbox = Outbox(client.device_dir / "outbox")
    sent = []
    for amount in (1.0, 1.0, 2.0):
        taking_part = client.join_round(round_id)
        delta = {name: np.full_like(STATE[name], amount) for name in ("body.w", "head.w")}
        taking_part.download()
        try:
            sent.append(taking_part.submit(delta, sample_count=1).status)
        except ConflictError:
            sent.append("refused")

    assert sent == ["accepted", "duplicate", "refused"]
    assert outbox.pending() == ()
    assert server.get_round(round_id).num_updates == 1


def test_a_cancelled_round_takes_no_update(server: EmbeddedServer, enrol: Enrol) -> None:
    client = enrol("mri-1")
    round_id = server.create_round(org_id=ORG, model="digits").round_id
    taking_part = client.join_round(round_id)
    taking_part.download()
    server.cancel_round(round_id)

    with pytest.raises(RoundClosedError):
        taking_part.submit({"body.w": np.zeros((2, 2)), "head.w": np.zeros(1)}, sample_count=1)
    with pytest.raises(RoundStateError, match="abandoned"):
        client.join_round(round_id)


def test_unknown_rounds_and_models_say_so(enrol: Enrol) -> None:
    client = enrol("mri-1")

    with pytest.raises(NotFoundError):
        client.participate_in_round("round_unknown", _adding(1, 1))
    with pytest.raises(NotFoundError):
        client.pull_global_model("unknown")


def test_a_personal_model_is_kept_for_its_device_alone(server: EmbeddedServer, enrol: Enrol) -> None:
    client, other = enrol("mri-1"), enrol("mri-2")

    client.upload_personalized_update({"w": torch.ones(2)}, {"acc": 0.5})

    assert client.get_personalized_state()["w"].tolist() == [1, 1]
    with pytest.raises(NotFoundError):
        other.get_personalized_model()


DYING_DEVICE = """
import os, pathlib, signal, sys
from edgeml_client import FederatedClient

token, api_base, state_dir, round_id = sys.argv[1:]

def token_or_death():
    # The transport asks for a token before each request: with an update on disk, this is the upload.
    if list(pathlib.Path(state_dir).rglob("*.update")):
        os.kill(os.getpid(), signal.SIGKILL)
    return token

def train(state):
    for value in state.values():
        value += 1
    return state, 5, None

client = FederatedClient(token_or_death, "clinic-a", api_base, "mri-1", state_dir=state_dir)
client.participate_in_round(round_id, train, "numpy")
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_device_killed_before_the_upload_is_counted_once_after_its_restart(
    server: EmbeddedServer, tmp_path: Path
) -> None:
    auth = DeviceAuthClient(
        base_url=server.url, org_id=ORG, device_identifier="mri-1", token_storage="memory"
    )
    auth.bootstrap_sync(bootstrap_bearer_token=server.create_bootstrap_token(org_id=ORG))
    token = auth.get_access_token_sync()
    state_dir = tmp_path / "state"
    with FederatedClient(lambda: token, ORG, server.api_base, "mri-1", state_dir=state_dir) as client:
        client.register()
        round_id = server.create_round(org_id=ORG, model="digits").round_id

        died = subprocess.run(
            [sys.executable, "-c", DYING_DEVICE, token, server.api_base, str(state_dir), round_id],
            check=False,
        )

        assert died.returncode == -signal.SIGKILL
        assert server.get_round(round_id).num_updates == 0
        (waiting,) = state_dir.rglob("*.update")
        content = waiting.read_bytes()

        first = client.flush_outbox()
        waiting.write_bytes(content)  # as if the device had died again, before it could forget the update
        second = client.flush_outbox()

        assert [receipt.status for receipt in first.receipts + second.receipts] == ["accepted", "duplicate"]
        status = client.wait_for_round(round_id, timeout_s=30)
        assert (status.num_updates, status.num_samples) == (1, 5)
        assert client.pull_global_model("digits").numpy_arrays()["head.w"].tolist() == [1.5]
