"""The client without Lightning and without torch: softmax regression in NumPy, on two devices.

Anything that maps a state to a state and says how many samples it saw can take part in a round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_server import EmbeddedServer

ORG = "clinic-a"
ROUNDS = 5


def main() -> None:
    """Let two devices, one with the digits 0 to 4 and one with 5 to 9, train in turn for five rounds."""
    features, labels = load_digits(return_X_y=True)
    features = features / 16
    parts = {"low": labels < 5, "high": labels >= 5}
    start = {"weight": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        server.register_model(org_id=ORG, name="softmax", state=start)
        clients = {name: connect(server, name, Path(folder) / name) for name in parts}
        round_id = server.create_round(
            org_id=ORG, model="softmax", num_rounds=ROUNDS, min_updates=len(clients)
        ).round_id
        for number in range(1, ROUNDS + 1):
            for name, client in clients.items():
                learn = partial(train, features=features[parts[name]], labels=labels[parts[name]])
                client.participate_in_round(round_id, learn)
            ended = server.wait_for_round(round_id, timeout_s=30)
            model = clients["low"].pull_global_model("softmax", ended.new_version).numpy_arrays()
            print(f"round {number}: {accuracy(model, features, labels):.1%} of all digits are right")
            round_id = ended.next_round_id or round_id
        for client in clients.values():
            client.close()


def connect(server: EmbeddedServer, name: str, folder: Path) -> FederatedClient:
    """Enrol a device, register it, and return its client."""
    auth = DeviceAuthClient(base_url=server.url, org_id=ORG, device_identifier=name, token_storage="memory")
    auth.bootstrap_sync(bootstrap_bearer_token=server.create_bootstrap_token(org_id=ORG))
    client = FederatedClient(
        auth_token_provider=auth.get_access_token_sync,
        org_id=ORG,
        api_base=server.api_base,
        device_identifier=name,
        state_dir=folder,
    )
    client.register()
    return client


def train(
    state: dict[str, Any], *, features: np.ndarray, labels: np.ndarray
) -> tuple[Mapping[str, Any], int, Mapping[str, float]]:
    """Take twenty gradient steps; return the new state, the number of samples, and what to report."""
    weight, bias = np.array(state["weight"]), np.array(state["bias"])
    targets = np.eye(10)[labels]
    for _ in range(20):
        error = probabilities(features @ weight + bias) - targets
        weight -= 0.5 * (features.T @ error / len(labels)).astype(np.float32)
        bias -= 0.5 * error.mean(axis=0).astype(np.float32)
    new = {"weight": weight, "bias": bias}
    return new, len(labels), {"accuracy": accuracy(new, features, labels)}


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Return the softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def accuracy(state: Mapping[str, Any], features: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of samples whose largest logit is at their label."""
    return float(((features @ state["weight"] + state["bias"]).argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    main()
