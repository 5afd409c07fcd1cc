"""A control plane's side of device auth, for tests."""

from __future__ import annotations

from collections.abc import Callable

from edgeml_client import DeviceAuthClient
from edgeml_client.testing import Exchange, Reply, ScriptedServer

__all__ = ["MakeAuth", "Rotation"]

MakeAuth = Callable[..., DeviceAuthClient]


class Rotation:
    """Answers device auth as a control plane does: each refresh token works once, access tokens live 900 s.

    Attributes:
        current: The number of the refresh token that works.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.current = 0
        server.on("POST", "/device-auth/bootstrap", self.bootstrap)
        server.on("POST", "/device-auth/refresh", self.refresh)
        server.on("POST", "/device-auth/revoke", self.revoke)

    def bootstrap(self, exchange: Exchange) -> Reply:
        if exchange.headers["authorization"] != "Bearer good-bootstrap-token":
            return Reply.of_json({"detail": "this bootstrap token was used already"}, status=401)
        return self.issue(exchange.json["org_id"], exchange.json["device_identifier"])

    def refresh(self, exchange: Exchange) -> Reply:
        if exchange.json["refresh_token"] != f"refresh-{self.current}":
            return Reply.of_json({"detail": "this refresh token is not the latest"}, status=401)
        return self.issue("clinic-a", "mri-3")

    def revoke(self, exchange: Exchange) -> Reply:
        if exchange.json["refresh_token"] != f"refresh-{self.current}":
            return Reply(status=401)
        self.current += 1
        return Reply(status=204, body=b"")

    def issue(self, org_id: str, device_identifier: str) -> Reply:
        self.current += 1
        return Reply.of_json(
            {
                "access_token": f"access-{self.current}",
                "refresh_token": f"refresh-{self.current}",
                "token_type": "Bearer",
                "expires_in": 900,
                "org_id": org_id,
                "device_identifier": device_identifier,
                "scopes": ["devices:write"],
            }
        )
