"""``edgeml-sdk`` 1.0.0 as it is on PyPI runs whole rounds against our control plane, unchanged."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import edgeml
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgeml_server import EmbeddedServer

ORG = "clinic-a"
MODEL = "digits"
SCOPES = ["devices:write", "models:write", "rounds:write"]


def network(seed: int = 0) -> nn.Module:
    """A small network with a batch norm, whose counter is an integer buffer."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))


class Device:
    """One device of the published SDK: its own token, its own share of the digits."""

    def __init__(self, server: EmbeddedServer, number: int, *, num_devices: int = 2) -> None:
        self.auth = edgeml.DeviceAuthClient(
            base_url=server.url, org_id=ORG, device_identifier=f"mri-{number}"
        )
        token = server.create_bootstrap_token(org_id=ORG, scopes=SCOPES)
        asyncio.run(self.auth.bootstrap(bootstrap_bearer_token=token, scopes=SCOPES))
        self.client = edgeml.FederatedClient(
            auth_token_provider=self.auth.get_access_token_sync, org_id=ORG, api_base=server.api_base
        )
        digits = load_digits()
        share = slice(number, None, num_devices)
        self.inputs = torch.tensor(digits.data[share] / 16, dtype=torch.float32)
        self.labels = torch.tensor(digits.target[share])

    def train(self, state: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, float]]:
        """Train 30 full-batch steps; this SDK needs a copy, for it subtracts the state it handed out."""
        model = network()
        model.load_state_dict({name: value.clone() for name, value in state.items()})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(30):
            loss = nn.functional.cross_entropy(model(self.inputs), self.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model.state_dict(), len(self.labels), {"loss": float(loss.detach())}

    def accuracy(self, state: dict[str, Any]) -> float:
        model = network()
        model.load_state_dict(state)
        model.eval()
        return float((model(self.inputs).argmax(1) == self.labels).float().mean())

    def close(self) -> None:
        self.client.api.close()


@pytest.fixture
def new_device(server: EmbeddedServer) -> Iterator[Callable[[int], Device]]:
    devices: list[Device] = []

    def make(number: int) -> Device:
        devices.append(Device(server, number))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


@pytest.fixture
def model_id(server: EmbeddedServer, tmp_path: Path) -> str:
    """The id of a model that this SDK's registry created, uploaded and published."""
    token = server.create_operator_token(org_id=ORG)
    registry = edgeml.ModelRegistry(lambda: token, org_id=ORG, api_base=server.api_base)
    path = tmp_path / "digits.pt"
    torch.save(network().state_dict(), path)
    with closing(registry.api):
        model = registry.ensure_model(MODEL, framework="pytorch", use_case="vision")
        assert registry.ensure_model(MODEL, framework="pytorch", use_case="vision")["id"] == model["id"]
        registry.upload_version_from_path(model["id"], str(path), "1.0.0", description="first")
        registry.publish_version(model["id"], "1.0.0")
        assert registry.get_latest_version(model["id"]) == "1.0.0"
        return str(model["id"])


def loaded(saved: bytes) -> dict[str, Any]:
    return dict(torch.load(io.BytesIO(saved), weights_only=True))  # noqa: TID251 - what the SDK's users do


def test_two_devices_run_two_rounds_and_learn(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    devices = [new_device(0), new_device(1)]
    ids = [device.client.register() for device in devices]
    opened = server.create_round(org_id=ORG, model=MODEL, num_rounds=2, min_updates=2)
    before = devices[0].accuracy(loaded(devices[0].client.pull_model(MODEL)))

    for number in (1, 2):
        for device in devices:
            assignment = device.client.get_round_assignment()
            assert assignment is not None
            assert assignment["id"] == assignment["round_id"]
            assert assignment["round_number"] == number
            receipt = device.client.participate_in_round(assignment["round_id"], device.train)
            assert receipt["status"] == "accepted"
        status = server.wait_for_round(assignment["round_id"], timeout_s=30)
        assert (status.state, status.num_updates, status.num_samples) == ("completed", 2, 1797)

    assert len(set(ids)) == 2
    assert opened.version == "1.0.0"
    assert devices[0].client.get_round_assignment() is None
    assert devices[0].client.api.get(f"/models/{model_id}/versions/latest")["version"] == "1.0.2"
    after = devices[0].accuracy(loaded(devices[0].client.pull_model(MODEL)))
    assert before < 0.3
    assert after > 0.8


def test_the_new_version_is_the_mean_of_what_the_devices_sent(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    """Base + (899 * delta_0 + 898 * delta_1) / 1797, against float64; the counter keeps the base's value."""
    devices = [new_device(0), new_device(1)]
    for device in devices:
        device.client.register()
    round_id = server.create_round(org_id=ORG, model=MODEL, min_updates=2).round_id
    base = loaded(devices[0].client.pull_model(MODEL))
    trained = []
    for device in devices:
        state, num_samples, _ = device.train(base)
        trained.append((state, num_samples))
        device.client.participate_in_round(round_id, device.train)

    server.wait_for_round(round_id, timeout_s=30)
    result = loaded(devices[1].client.pull_model(MODEL))

    total = sum(num_samples for _, num_samples in trained)
    for name, before in base.items():
        if not before.is_floating_point():
            assert torch.equal(result[name], before)
            continue
        mean = sum(
            ((state[name].double() - before.double()) * n for state, n in trained),
            start=torch.zeros_like(before, dtype=torch.float64),
        )
        np.testing.assert_allclose(result[name], before.double() + mean / total, atol=1e-6)


def test_the_same_round_again_is_refused_for_another_update_and_harmless_for_the_same(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    device, other = new_device(0), new_device(1)
    device.client.register()
    other.client.register()
    round_id = server.create_round(org_id=ORG, model=MODEL, min_updates=2).round_id
    first = device.client.participate_in_round(round_id, device.train)

    again = device.client.participate_in_round(round_id, device.train)
    with pytest.raises(edgeml.EdgeMLClientError, match="already sent a different update"):
        device.client.participate_in_round(round_id, lambda state: (network(5).state_dict(), 7, None))

    assert again == {"update_id": first["update_id"], "status": "duplicate"}
    assert device.client.get_round_status(round_id)["num_updates"] == 1


@pytest.mark.parametrize(
    "filters",
    [
        [{"type": "sparsification", "top_k": 0.25}, {"type": "gaussian_noise", "sigma": 0.0}],
        [{"type": "sparsification", "top_k_percent": 25.0}, {"type": "gaussian_noise", "stddev": 0.0}],
    ],
    ids=["our spelling", "its spelling"],
)
def test_filters_mean_the_same_to_this_sdk_in_either_spelling(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device], filters: list[dict[str, Any]]
) -> None:
    """Spelled otherwise, this SDK would take its defaults: 10 % of the values, and noise of 0.01."""
    device = new_device(0)
    device.client.register()
    config = {"filters": filters, "clip_norm": 1.0, "proximal_mu": 0.1}
    round_id = server.create_round(org_id=ORG, model=MODEL, config=config).round_id
    base = loaded(device.client.pull_model(MODEL))

    receipt = device.client.participate_in_round(round_id, device.train)
    server.wait_for_round(round_id, timeout_s=30)

    change = loaded(device.client.pull_model(MODEL))["0.weight"] - base["0.weight"]
    assert receipt["status"] == "accepted"
    assert float((change != 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(change.norm()) <= 1.0 + 1e-6


def test_a_round_with_filters_that_this_sdk_does_not_know_works_without_them(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    """It skips ``exclude``, takes the largest quarter for a random one, and rounds to nearest."""
    device = new_device(0)
    device.client.register()
    filters = [
        {"type": "exclude", "names": ["3"]},
        {"type": "sparsification", "random_k": 0.25, "seed": 1},
        {"type": "gaussian_noise", "noise_multiplier": 0.0},
        {"type": "quantization", "bits": 8, "rounding": "stochastic"},
    ]
    config = {"clip_norm": 1.0, "filters": filters}
    round_id = server.create_round(org_id=ORG, model=MODEL, config=config).round_id
    base = loaded(device.client.pull_model(MODEL))

    receipt = device.client.participate_in_round(round_id, device.train)
    server.wait_for_round(round_id, timeout_s=30)

    change = loaded(device.client.pull_model(MODEL))["0.weight"] - base["0.weight"]
    assert receipt["status"] == "accepted"
    assert float((change.abs() > 0.01 * change.abs().max()).float().mean()) <= 0.26


def test_updates_without_a_round_wait_until_a_federation_trains(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    devices = [new_device(0), new_device(1)]
    token = server.create_operator_token(org_id=ORG)
    federation = edgeml.Federation(lambda: token, name="hospitals", org_id=ORG, api_base=server.api_base)
    with closing(federation.api):
        with pytest.raises(edgeml.EdgeMLClientError, match="0 updates wait"):
            federation.train(MODEL, base_version="1.0.0", min_updates=2)
        devices[0].client.train_from_remote(MODEL, devices[0].train, update_format="delta")
        devices[1].client.train_from_remote(MODEL, devices[1].train, update_format="weights")

        result = federation.train(MODEL, base_version="1.0.0", min_updates=2)

        assert federation.invite(["clinic-b"]) == [{"org_id": "clinic-b", "status": "invited"}]
        budget = devices[0].client.get_privacy_budget(federation.federation_id)
    assert (result["new_version"], result["num_updates"], result["num_samples"]) == ("1.0.1", 2, 1797)
    assert devices[0].accuracy(loaded(devices[0].client.pull_model(MODEL))) > 0.6
    assert (budget["mechanism"], budget["epsilon_spent"]) == ("none", None)


def test_a_personal_model_comes_back_as_it_was_sent(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    device, other = new_device(0), new_device(1)
    personal = network(3).state_dict()
    device.client.upload_personalized_update(personal, metrics={"accuracy": 0.9})

    held = device.client.get_personalized_model()
    other.client.register()
    with pytest.raises(edgeml.EdgeMLClientError, match="no personal model of device"):
        other.client.api.get(f"/training/personalized/{device.client.device_id}")

    returned = loaded(base64.b64decode(held["weights_data"]))
    assert held["metrics"] == {"accuracy": 0.9}
    assert all(torch.equal(returned[name], value) for name, value in personal.items())


def test_secure_aggregation_is_refused_with_a_sentence(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    device = new_device(0)
    device.client.register()
    round_id = server.create_round(org_id=ORG, model=MODEL).round_id
    device.client.secure_aggregation = True

    with pytest.raises(edgeml.EdgeMLClientError, match="does not use secure aggregation"):
        device.client.participate_in_round(round_id, device.train)


def test_an_inference_event_is_kept(server: EmbeddedServer, new_device: Callable[[int], Device]) -> None:
    device = new_device(0)

    answer = device.client.api.report_inference_event({"model_id": "llm", "event_type": "generation_started"})

    assert answer == {"status": "stored"}


def test_a_revoked_device_is_turned_away(
    server: EmbeddedServer, model_id: str, new_device: Callable[[int], Device]
) -> None:
    device = new_device(0)
    device.client.register()
    token = device.auth.get_access_token_sync()
    asyncio.run(device.auth.revoke())
    device.client.api.auth_token_provider = lambda: token

    with pytest.raises(edgeml.EdgeMLClientError, match="revoked"):
        device.client.get_round_status("any")
