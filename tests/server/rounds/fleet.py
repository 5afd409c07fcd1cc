"""An organization on a running control plane: its operator, its model, its devices, as raw HTTP clients."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.model_file import GlobalModel
from edgeml_client.updates.update_file import UPDATE_CONTENT_TYPE, encode_update
from edgeml_server import EmbeddedServer

STATE = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float32), "steps": np.array(7)}


def content_digest(body: bytes) -> str:
    """Return the header of RFC 9530."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


class FleetDevice:
    """A device that speaks the wire contract by hand."""

    def __init__(self, server: EmbeddedServer, org: str, name: str, *, registers: bool = True) -> None:
        self.name = name
        self.http = httpx.Client(base_url=server.api_base, timeout=60)
        token = server.create_bootstrap_token(org_id=org)
        answer = self.http.post(
            "/device-auth/bootstrap",
            json={"org_id": org, "device_identifier": name},
            headers={"Authorization": f"Bearer {token}"},
        )
        tokens = answer.raise_for_status().json()
        self.http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        self._refresh_token = tokens["refresh_token"]
        self.id = ""
        if registers:
            answer = self.http.post("/devices/register", json={"org_id": org, "device_identifier": name})
            self.id = answer.raise_for_status().json()["id"]

    def revoke(self) -> None:
        """Give the device's tokens back."""
        body = {"refresh_token": self._refresh_token}
        self.http.post("/device-auth/revoke", json=body).raise_for_status()

    def assignments(self, **params: Any) -> list[dict[str, Any]]:
        """Return the rounds that wait for this device."""
        answer = self.http.get(
            "/training/rounds", params={"device_id": self.id, "status": "active", **params}
        )
        rounds: list[dict[str, Any]] = answer.raise_for_status().json()
        return rounds

    def header(self, assignment: Mapping[str, Any], **changes: Any) -> UpdateHeader:
        """Return the envelope of an update for an assignment, with changes."""
        return UpdateHeader.model_validate(
            {
                "round_id": assignment["round_id"],
                "model_id": assignment["model_id"],
                "base_version": assignment["version"],
                "base_digest": assignment["base_digest"],
                "device_id": self.id,
                "sample_count": 10,
                **changes,
            }
        )

    def update(self, assignment: Mapping[str, Any], value: float = 1.0, **changes: Any) -> bytes:
        """Return a good update file whose every number is ``value``."""
        delta = {"w": np.full((2, 3), value, np.float32), "b": np.full(3, value, np.float32)}
        return encode_update(self.header(assignment, **changes), delta)

    def send(self, round_id: str, body: bytes, **headers: str) -> httpx.Response:
        """Send a body as the update of a round."""
        standard = {"Content-Type": UPDATE_CONTENT_TYPE, "Content-Digest": content_digest(body)}
        return self.http.post(
            f"/training/rounds/{round_id}/updates", content=body, headers=standard | headers
        )

    def answer(self, value: float = 1.0, **changes: Any) -> httpx.Response:
        """Take the first assignment and send a good update for it."""
        assignment = self.assignments()[0]
        return self.send(assignment["round_id"], self.update(assignment, value, **changes))


class Fleet:
    """One organization, new for each test."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.org = f"org-{uuid.uuid4().hex[:12]}"
        self.model_id = server.register_model(org_id=self.org, name="m", state=STATE).model_id or ""
        token = server.create_operator_token(org_id=self.org)
        self.operator = httpx.Client(
            base_url=server.api_base, headers={"Authorization": f"Bearer {token}"}, timeout=60
        )
        self.devices: list[FleetDevice] = []

    def add_devices(self, number: int) -> list[FleetDevice]:
        """Enrol and register devices."""
        first = len(self.devices)
        new = [FleetDevice(self.server, self.org, f"device-{first + i:03d}") for i in range(number)]
        self.devices += new
        return new

    def open_round(self, **values: Any) -> str:
        """Open a round and return its id."""
        return self.server.create_round(org_id=self.org, model="m", **values).round_id

    def status(self, round_id: str) -> dict[str, Any]:
        """Return how far a round is."""
        answer = self.operator.get(f"/training/rounds/{round_id}/status")
        status: dict[str, Any] = answer.raise_for_status().json()
        return status

    def model(self, version: str = "latest") -> dict[str, Any]:
        """Return the arrays of a version."""
        path = f"/models/{self.model_id}/versions/{version}/download"
        answer = self.operator.get(path, params={"format": "safetensors"})
        return GlobalModel(answer.raise_for_status().content).numpy_arrays()

    def close(self) -> None:
        """Close all clients."""
        self.operator.close()
        for device in self.devices:
            device.http.close()


@contextmanager
def fleet_on(server: EmbeddedServer) -> Iterator[Fleet]:
    """Return a new fleet on a server, closed at the end."""
    fleet = Fleet(server)
    try:
        yield fleet
    finally:
        fleet.close()
