"""The answers of a control plane with one model and one round, old or new, over a scripted server."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeml_client import FederatedClient
from edgeml_client.testing import FakeClock, Reply, ScriptedServer
from edgeml_client.updates import encode_model
from edgeml_client.updates.model_file import digest_of
from edgeml_client.updates.torch_format import dumps_state_dict

__all__ = ["NEW", "STATE", "ScriptedPlane"]

STATE: Mapping[str, Any] = {
    "body.w": np.array([1.0, 2.0], np.float32),
    "head.w": np.array([0.5], np.float32),
    "body.steps": np.array(4),
}
NEW = ("models.safetensors", "rounds.wait", "updates.binary")


class ScriptedPlane:
    """Answers what a device asks in a round.

    Args:
        server: The sockets.
        capabilities: What ``GET /health`` announces; :meth:`announce` changes it.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.clock = FakeClock()
        self.model_file = encode_model(STATE)
        server.on("POST", "/devices/register", Reply.of_json({"id": "dev-1"}))
        server.on("GET", "/models", Reply.of_json({"models": [{"id": "m-1", "name": "digits"}]}))
        server.on("GET", "/models/m-1/versions/latest", Reply.of_json({"version": "7"}))
        server.on("POST", "/training/rounds/r-1/updates", self.receipt())
        server.on("POST", "/training/weights", self.receipt())
        self.announce(*NEW)
        self.offer()

    @staticmethod
    def receipt(status: str = "accepted") -> Reply:
        """Return what stands for an update that is held."""
        return Reply.of_json({"update_id": "u-1", "status": status}, status=201)

    def announce(self, *capabilities: str) -> None:
        """Let ``GET /health`` announce these; none means a server that has no such call."""
        answer = Reply.of_json({"status": "ok", "capabilities": list(capabilities)})
        self.server.on(
            "GET", "/health", answer if capabilities else Reply.of_json({"detail": "no"}, status=404)
        )
        is_new = "models.safetensors" in capabilities
        body = self.model_file if is_new else dumps_state_dict(STATE)
        self.server.on("GET", "/models/m-1/versions/3/download", Reply(body=body))

    def offer(self, config: Mapping[str, Any] | None = None, **changes: Any) -> None:
        """Offer the round ``r-1`` of model ``m-1``, version 3, to the device."""
        offered = {
            "round_id": "r-1",
            "model_id": "m-1",
            "version": "3",
            "state": "training",
            "config": config or {},
            "base_digest": digest_of(self.model_file),
        } | changes
        self.server.on("GET", "/training/rounds", Reply.of_json([offered]))
        self.server.on("GET", "/training/rounds/r-1/status", Reply.of_json(offered))

    def client(self, state_dir: Path, **options: Any) -> FederatedClient:
        """Return a device of organization ``org`` that sends the token ``token``."""
        return FederatedClient(
            lambda: "token",
            "org",
            self.server.api_base,
            "device",
            state_dir=state_dir,
            clock=self.clock,
            **{"timeout": 5.0, "max_attempts": 1} | options,
        )
