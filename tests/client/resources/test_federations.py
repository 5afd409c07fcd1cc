from __future__ import annotations

import asyncio

import pytest

from edgeml_client import AsyncEdgeML, AsyncFederation, EdgeML, FederatedClient, Federation
from edgeml_client.errors import ConfigurationError, ConflictError
from edgeml_client.testing import Exchange, Reply, ScriptedServer

FOUND = Reply.of_json([{"id": "f-1", "name": "default"}])
NONE = Reply.of_json([])
CREATED = Reply.of_json({"id": "f-2"}, status=201)


def test_making_the_object_sends_nothing(server: ScriptedServer, edge: EdgeML) -> None:
    assert edge.federation.name == "default"
    assert server.exchanges == []


def test_a_federation_is_looked_up_once(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("GET", "/federations", FOUND)

    ids = {edge.federation.federation_id, edge.federation.resolve(), edge.federation.analytics.federation_id}

    (exchange,) = server.requests("GET", "/federations")
    assert ids == {"f-1"}
    assert exchange.query == {"org_id": "clinic-a", "name": "default"}


def test_a_federation_that_is_not_there_is_created(server: ScriptedServer) -> None:
    server.on("GET", "/federations", NONE)
    server.on("POST", "/federations", CREATED)

    with Federation(lambda: "t", "clinics", "clinic-a", server.api_base) as federation:
        assert federation.federation_id == "f-2"

    (exchange,) = server.requests("POST", "/federations")
    assert exchange.json == {"org_id": "clinic-a", "name": "clinics"}


def test_a_federation_that_somebody_else_creates_meanwhile_is_used(
    server: ScriptedServer, edge: EdgeML
) -> None:
    server.on("GET", "/federations", NONE, FOUND)
    server.on("POST", "/federations", Reply.of_json({"detail": "taken"}, status=409))

    assert edge.federation.resolve() == "f-1"


def test_a_conflict_about_something_else_is_shown(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("GET", "/federations", NONE)
    server.on("POST", "/federations", Reply.of_json({"detail": "too many"}, status=409))

    with pytest.raises(ConflictError, match="too many"):
        edge.federation.resolve()


def test_organizations_are_invited(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("GET", "/federations", FOUND)
    server.on("POST", "/federations/f-1/invite", Reply.of_json([{"org_id": "clinic-b", "status": "invited"}]))

    (invitation,) = edge.federation.invite(["clinic-b"])

    assert invitation["org_id"] == "clinic-b"
    assert server.requests("POST", "/federations/f-1/invite")[0].json == {"org_ids": ["clinic-b"]}


def aggregation(server: ScriptedServer) -> None:
    """Serve a model whose aggregations make versions one higher than their base."""

    def aggregate(exchange: Exchange) -> Reply:
        new = exchange.json["new_version"] or str(int(exchange.json["base_version"]) + 1)
        return Reply.of_json({"new_version": new})

    server.on("GET", "/models", Reply.of_json({"models": [{"id": "m", "name": "digits"}]}))
    server.on("POST", "/training/aggregate", aggregate)
    server.on("POST", "/models/m/rollouts", Reply.of_json({"id": 3}))


def test_aggregations_build_on_each_other(server: ScriptedServer, edge: EdgeML) -> None:
    aggregation(server)

    result = edge.federation.train("digits", rounds=3, min_updates=2, base_version="1", new_version="10")

    bodies = [it.json for it in server.requests("POST", "/training/aggregate")]
    assert result["new_version"] == "12"
    assert [(body["base_version"], body["new_version"]) for body in bodies] == [
        ("1", "10"),
        ("10", None),
        ("11", None),
    ]
    assert bodies[0] == {
        "model_id": "m",
        "base_version": "1",
        "new_version": "10",
        "min_updates": 2,
        "publish": True,
        "strategy": "metrics",
        "update_format": "delta",
        "architecture": None,
        "input_dim": 16,
        "hidden_dim": 8,
        "output_dim": 4,
    }


def test_what_was_trained_can_be_deployed(server: ScriptedServer, edge: EdgeML) -> None:
    aggregation(server)
    edge.federation.train("digits", base_version="1")

    rollout = edge.federation.deploy(rollout_percentage=25)

    (exchange,) = server.requests("POST", "/models/m/rollouts")
    assert rollout.id == 3
    assert (exchange.json["version"], exchange.json["rollout_percentage"]) == ("2", 25.0)


def test_without_a_version_the_latest_is_deployed(server: ScriptedServer, edge: EdgeML) -> None:
    aggregation(server)
    server.on("GET", "/models/m/versions/latest", Reply.of_json({"version": "7"}))

    edge.federation.deploy("m")

    assert server.requests("POST", "/models/m/rollouts")[0].json["version"] == "7"


def test_what_cannot_work_is_not_sent(server: ScriptedServer, edge: EdgeML) -> None:
    with pytest.raises(ConfigurationError, match="model_id"):
        edge.federation.deploy()
    with pytest.raises(ConfigurationError, match="fedavg"):
        edge.federation.train("digits", algorithm="magic")
    with pytest.raises(ConfigurationError, match="rounds"):
        edge.federation.train("digits", rounds=0)
    with pytest.raises(ConfigurationError, match="traffic_percentage"):
        edge.experiments.create(
            name="e", model_id="m", control_version="1", treatment_version="2", traffic_percentage=101
        )

    assert server.exchanges == []


def test_a_device_client_shares_address_and_organization(edge: EdgeML) -> None:
    client = edge.client("mri-3", platform="linux")

    assert isinstance(client, FederatedClient)
    assert (client.org_id, client.device_identifier, client.platform) == ("clinic-a", "mri-3", "linux")
    client.close()


def test_the_async_twins_reach_the_same_calls(server: ScriptedServer) -> None:
    aggregation(server)
    server.on("GET", "/federations", FOUND)
    server.on("GET", "/models/m/rollouts", Reply.of_json([]))
    server.on("GET", "/experiments", Reply.of_json([]))

    async def everything() -> tuple[object, ...]:
        async with AsyncEdgeML(lambda: "t", "clinic-a", server.api_base) as edge:
            return (
                await edge.registry.resolve_model_id("digits"),
                await edge.rollouts.list("m"),
                await edge.experiments.list(),
                await edge.federation.resolve(),
            )

    assert asyncio.run(everything()) == ("m", [], [], "f-1")


def test_an_async_federation_stands_alone(server: ScriptedServer) -> None:
    server.on("GET", "/federations", FOUND)

    async def resolve() -> str:
        async with AsyncFederation(lambda: "t", api_base=server.api_base) as federation:
            return await federation.resolve()

    assert asyncio.run(resolve()) == "f-1"
