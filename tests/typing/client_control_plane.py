"""What a type checker must know about tokens and the control-plane clients; never run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import assert_type

import numpy as np
from pydantic import SecretStr

from edgeml_client import (
    AsyncEdgeML,
    AsyncModelRegistry,
    DeviceAuthClient,
    DeviceTokenState,
    EdgeML,
    FederatedAnalyticsAPI,
    FederatedClient,
    Federation,
    ModelRegistry,
)
from edgeml_client.auth import FileTokenStore, TokenStore
from edgeml_client.clock import Clock
from edgeml_client.config import TokenStorage, resolve_config
from edgeml_client.schemas import (
    Experiment,
    FederationRecord,
    Model,
    ModelFiles,
    ModelVersion,
    Record,
    Rollout,
)
from edgeml_client.testing import Exchange, FakeClock, Reply, ScriptedServer


async def tokens(auth: DeviceAuthClient) -> None:
    assert_type(await auth.bootstrap(bootstrap_bearer_token="b"), DeviceTokenState)
    assert_type(auth.bootstrap_sync(bootstrap_bearer_token=SecretStr("b")), DeviceTokenState)
    assert_type(await auth.refresh(), DeviceTokenState)
    assert_type(await auth.get_access_token(), str)
    assert_type(auth.get_access_token_sync(), str)
    assert_type(await auth.revoke(), None)
    assert_type(auth.refresh_sync().access_token, SecretStr)
    assert_type(auth.refresh_sync().expires_at, datetime)
    provider: Callable[[], str] = auth.get_access_token_sync
    FederatedClient(auth_token_provider=provider, org_id="o")


def stores_and_clocks(store: TokenStore, clock: Clock) -> None:
    for storage in ("memory", TokenStorage.FILE, FileTokenStore(), store, None):
        DeviceAuthClient(
            base_url="https://host",
            org_id="o",
            device_identifier="d",
            token_storage=storage,
            clock=FakeClock() if storage else clock,
        )
    assert_type(resolve_config().device_identifier, str | None)


def control_plane(edge: EdgeML) -> None:
    assert_type(edge.registry, ModelRegistry)
    assert_type(edge.federation, Federation)
    assert_type(edge.client("d"), FederatedClient)
    assert_type(edge.registry.get_model("m"), Model)
    assert_type(edge.registry.list_models().models, tuple[Model, ...])
    assert_type(edge.registry.upload_version("m", {"w": np.zeros(2)}, "1"), ModelVersion)
    assert_type(edge.registry.download("m", "1", Path(), format="safetensors"), ModelFiles)
    assert_type(edge.rollouts.list("m"), list[Rollout])
    assert_type(edge.experiments.get("e"), Experiment)
    assert_type(edge.federation.analytics, FederatedAnalyticsAPI)
    assert_type(edge.federation.analytics.descriptive("age"), Record)
    with edge as same:
        assert_type(same, EdgeML)


async def async_twins(edge: AsyncEdgeML) -> None:
    assert_type(edge.registry, AsyncModelRegistry)
    assert_type(await edge.registry.get_model("m"), Model)
    assert_type(await edge.registry.get_latest_version("m"), str)
    assert_type(await edge.rollouts.create("m", "2", rollout_percentage=5.0), Rollout)
    assert_type(await edge.federation.resolve(), str)
    await edge.registry.get_model()  # pyright: ignore[reportCallIssue] - the parameters are the synchronous ones
    await edge.registry.get_model(3)  # pyright: ignore[reportArgumentType] - with their types


def answers_read_as_mappings(record: FederationRecord) -> None:
    assert_type(record.id, str)
    record["id"]
    record.get("unknown", 0)
    record.id = "other"  # pyright: ignore[reportAttributeAccessIssue] - answers are frozen


def doubles(server: ScriptedServer) -> None:
    def echo(exchange: Exchange) -> Reply:
        return Reply.of_json(exchange.json)

    server.on("POST", "/echo", echo, Reply(drop=True))
    assert_type(server.requests("POST", "/echo"), list[Exchange])
