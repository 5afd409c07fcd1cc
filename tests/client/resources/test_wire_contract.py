"""Each method sends what sections 3 and 4 of the wire contract say: method, path, query, body."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from edgeml_client import (
    AsyncExperimentsAPI,
    AsyncFederatedAnalyticsAPI,
    AsyncFederation,
    AsyncModelRegistry,
    AsyncRolloutsAPI,
    EdgeML,
    ExperimentsAPI,
    FederatedAnalyticsAPI,
    Federation,
    ModelRegistry,
    RolloutsAPI,
)
from edgeml_client.testing import Reply, ScriptedServer


@dataclass(frozen=True)
class Call:
    """One call of the contract."""

    do: Callable[[EdgeML], Any]
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict[str, str])
    body: Any = None
    answer: Any = field(default_factory=lambda: {"id": "1", "name": "n", "version": "1", "url": "u"})

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def statistics(edge: EdgeML) -> FederatedAnalyticsAPI:
    return FederatedAnalyticsAPI(edge.api, "f-1")


PAGE = {"limit": "100", "offset": "0"}
ROLLOUT = {
    "version": "2",
    "rollout_percentage": 10.0,
    "target_percentage": 100.0,
    "increment_step": 10.0,
}
EXPERIMENT = {
    "name": "e",
    "model_id": "m",
    "traffic_percentage": 100.0,
    "min_sample_size": 100,
    "confidence_level": 0.95,
    "primary_metric": "conversion",
    "variants": [
        {"name": "control", "model_version": "1", "traffic_allocation": 50.0, "is_control": True},
        {"name": "treatment", "model_version": "2", "traffic_allocation": 50.0, "is_control": False},
    ],
}

MODELS = [
    Call(lambda e: e.registry.list_models(), "GET", "/models", {"org_id": "clinic-a", **PAGE}),
    Call(
        lambda e: e.registry.list_models("pytorch", "triage", limit=5, offset=10),
        "GET",
        "/models",
        {"org_id": "clinic-a", "framework": "pytorch", "use_case": "triage", "limit": "5", "offset": "10"},
    ),
    Call(lambda e: e.registry.get_model("m"), "GET", "/models/m"),
    Call(lambda e: e.registry.get_model("m/../x"), "GET", "/models/m%2F..%2Fx"),
    Call(lambda e: e.registry.update_model("m", name="n"), "PATCH", "/models/m", body={"name": "n"}),
    Call(lambda e: e.registry.delete_model("m"), "DELETE", "/models/m"),
    Call(
        lambda e: e.registry.optimize("m", ["pixel_8"], size_budget_mb=4.5),
        "POST",
        "/models/m/optimize",
        body={"accuracy_threshold": 0.95, "target_devices": ["pixel_8"], "size_budget_mb": 4.5},
    ),
    Call(lambda e: e.registry.optimize("m"), "POST", "/models/m/optimize", body={"accuracy_threshold": 0.95}),
    Call(lambda e: e.registry.get_device_config("m", "pixel_8"), "GET", "/models/m/optimized-config/pixel_8"),
    Call(lambda e: e.registry.check_compatibility("m"), "GET", "/models/m/compatibility"),
    Call(
        lambda e: e.registry.check_compatibility("m", ["a", "b"]),
        "GET",
        "/models/m/compatibility",
        {"devices": "a,b"},
    ),
]
VERSIONS = [
    Call(lambda e: e.registry.list_versions("m"), "GET", "/models/m/versions", PAGE),
    Call(
        lambda e: e.registry.list_versions("m", "published"),
        "GET",
        "/models/m/versions",
        {"status": "published", **PAGE},
    ),
    Call(lambda e: e.registry.get_version("m", "1"), "GET", "/models/m/versions/1"),
    Call(lambda e: e.registry.get_latest_version_info("m"), "GET", "/models/m/versions/latest"),
    Call(
        lambda e: e.registry.create_version(
            "m", "2", "s3://b/k", "onnx", "sha256:00", 7, "new", {"auc": 0.9}
        ),
        "POST",
        "/models/m/versions",
        body={
            "version": "2",
            "storage_path": "s3://b/k",
            "format": "onnx",
            "checksum": "sha256:00",
            "size_bytes": 7,
            "description": "new",
            "metrics": {"auc": 0.9},
        },
    ),
    Call(lambda e: e.registry.publish_version("m", "1"), "POST", "/models/m/versions/1/publish", body={}),
    Call(lambda e: e.registry.deprecate_version("m", "1"), "POST", "/models/m/versions/1/deprecate", body={}),
    Call(
        lambda e: e.registry.update_version_metrics("m", "1", {"auc": 1}),
        "PATCH",
        "/models/m/versions/1/metrics",
        body={"metrics": {"auc": 1}},
    ),
    Call(lambda e: e.registry.delete_version("m", "1"), "DELETE", "/models/m/versions/1"),
    Call(
        lambda e: e.registry.get_download_url("m", "1", "tflite"),
        "GET",
        "/models/m/versions/1/download-url",
        {"format": "tflite"},
    ),
]
ROLLOUTS = [
    Call(
        lambda e: e.rollouts.create("m", "2"),
        "POST",
        "/models/m/rollouts",
        body=ROLLOUT | {"start_immediately": False},
    ),
    Call(
        lambda e: e.registry.deploy_version("m", "2"),
        "POST",
        "/models/m/rollouts",
        body=ROLLOUT | {"start_immediately": True},
    ),
    Call(lambda e: e.rollouts.list("m"), "GET", "/models/m/rollouts", answer=[]),
    Call(
        lambda e: e.rollouts.list("m", "paused"),
        "GET",
        "/models/m/rollouts",
        {"status_filter": "paused"},
        answer={"rollouts": [{"id": 3}]},
    ),
    Call(lambda e: e.rollouts.list_active("m"), "GET", "/models/m/rollouts/active", answer=[{"id": 3}]),
    Call(lambda e: e.rollouts.get("m", 3), "GET", "/models/m/rollouts/3"),
    Call(lambda e: e.rollouts.start("m", 3), "POST", "/models/m/rollouts/3/start", body={}),
    Call(lambda e: e.rollouts.pause("m", 3), "POST", "/models/m/rollouts/3/pause", body={}),
    Call(lambda e: e.rollouts.resume("m", 3), "POST", "/models/m/rollouts/3/resume", body={}),
    Call(lambda e: e.rollouts.advance("m", 3), "POST", "/models/m/rollouts/3/advance", body={}),
    Call(
        lambda e: e.rollouts.advance("m", 3, 5.0),
        "POST",
        "/models/m/rollouts/3/advance",
        body={"custom_increment": 5.0},
    ),
    Call(
        lambda e: e.rollouts.update_percentage("m", 3, 40.0, "looks good"),
        "POST",
        "/models/m/rollouts/3/update-percentage",
        body={"percentage": 40.0, "reason": "looks good"},
    ),
    Call(
        lambda e: e.rollouts.update_percentage("m", 3, 40.0),
        "POST",
        "/models/m/rollouts/3/update-percentage",
        body={"percentage": 40.0},
    ),
    Call(
        lambda e: e.rollouts.get_status_history("m", 3),
        "GET",
        "/models/m/rollouts/3/status-history",
        answer=[],
    ),
    Call(lambda e: e.rollouts.get_affected_devices("m", 3), "GET", "/models/m/rollouts/3/affected-devices"),
    Call(lambda e: e.rollouts.delete("m", 3), "DELETE", "/models/m/rollouts/3", {"force": "false"}),
    Call(
        lambda e: e.rollouts.delete("m", 3, force=True), "DELETE", "/models/m/rollouts/3", {"force": "true"}
    ),
]
EXPERIMENTS = [
    Call(
        lambda e: e.experiments.create(name="e", model_id="m", control_version="1", treatment_version="2"),
        "POST",
        "/experiments",
        body=EXPERIMENT,
    ),
    Call(lambda e: e.experiments.list(), "GET", "/experiments", {"org_id": "clinic-a", **PAGE}, answer=[]),
    Call(
        lambda e: e.experiments.list("m", "running"),
        "GET",
        "/experiments",
        {"org_id": "clinic-a", "model_id": "m", "status": "running", **PAGE},
        answer={"experiments": [{"id": "x"}]},
    ),
    Call(lambda e: e.experiments.get("x"), "GET", "/experiments/x"),
    *(
        Call(
            lambda e, step=step: getattr(e.experiments, step)("x"), "POST", f"/experiments/x/{step}", body={}
        )  # type: ignore[misc]
        for step in ("start", "pause", "resume", "complete", "cancel")
    ),
    Call(
        lambda e: e.experiments.update_allocations("x", [{"name": "control", "traffic_allocation": 10}]),
        "PATCH",
        "/experiments/x/allocations",
        body={"variants": [{"name": "control", "traffic_allocation": 10}]},
    ),
    Call(lambda e: e.experiments.get_target_groups("x"), "GET", "/experiments/x/target-groups"),
    Call(
        lambda e: e.experiments.set_target_groups("x", ["g"]),
        "PUT",
        "/experiments/x/target-groups",
        body={"group_ids": ["g"]},
    ),
    Call(
        lambda e: e.experiments.add_target_group("x", "g"), "POST", "/experiments/x/target-groups/g", body={}
    ),
    Call(lambda e: e.experiments.remove_target_group("x", "g"), "DELETE", "/experiments/x/target-groups/g"),
    Call(lambda e: e.experiments.get_analytics("x"), "GET", "/experiments/x/analytics"),
    Call(
        lambda e: e.experiments.get_analytics_sample_size("x"), "GET", "/experiments/x/analytics/sample-size"
    ),
    Call(lambda e: e.experiments.get_analytics_timeseries("x"), "GET", "/experiments/x/analytics/timeseries"),
]
STATISTICS = [
    Call(
        lambda e: statistics(e).descriptive("age", filters={"site": "a"}),
        "POST",
        "/federations/f-1/analytics/descriptive",
        body={
            "variable": "age",
            "group_by": "device_group",
            "include_percentiles": True,
            "filters": {"site": "a"},
        },
    ),
    Call(
        lambda e: statistics(e).t_test("age", "a", "b"),
        "POST",
        "/federations/f-1/analytics/t-test",
        body={"variable": "age", "group_a": "a", "group_b": "b", "confidence_level": 0.95},
    ),
    Call(
        lambda e: statistics(e).chi_square("sex", "outcome", ["g"]),
        "POST",
        "/federations/f-1/analytics/chi-square",
        body={"variable_1": "sex", "variable_2": "outcome", "confidence_level": 0.95, "group_ids": ["g"]},
    ),
    Call(
        lambda e: statistics(e).anova("age"),
        "POST",
        "/federations/f-1/analytics/anova",
        body={"variable": "age", "group_by": "device_group", "confidence_level": 0.95, "post_hoc": True},
    ),
    Call(
        lambda e: statistics(e).list_queries(),
        "GET",
        "/federations/f-1/analytics/queries",
        {"limit": "50", "offset": "0"},
    ),
    Call(lambda e: statistics(e).get_query("q"), "GET", "/federations/f-1/analytics/queries/q"),
]


@pytest.mark.parametrize("call", MODELS + VERSIONS + ROLLOUTS + EXPERIMENTS + STATISTICS, ids=str)
def test_a_call_sends_what_the_contract_says(server: ScriptedServer, edge: EdgeML, call: Call) -> None:
    server.on(call.method, call.path, Reply.of_json(call.answer))

    call.do(edge)

    (exchange,) = server.exchanges
    assert (exchange.method, exchange.path) == (call.method, f"/api/v1{call.path}")
    assert exchange.query == call.query
    assert (exchange.json if exchange.body else None) == call.body
    assert exchange.headers["authorization"] == "Bearer the-token"


def test_lists_are_read_bare_and_within_an_object(server: ScriptedServer, edge: EdgeML) -> None:
    server.on(
        "GET", "/models/m/rollouts", Reply.of_json([{"id": 3}]), Reply.of_json({"rollouts": [{"id": 3}]})
    )

    bare, within = edge.rollouts.list("m"), edge.rollouts.list("m")

    assert bare == within
    assert bare[0]["id"] == 3


TWINS = [
    (ModelRegistry, AsyncModelRegistry),
    (RolloutsAPI, AsyncRolloutsAPI),
    (ExperimentsAPI, AsyncExperimentsAPI),
    (Federation, AsyncFederation),
    (FederatedAnalyticsAPI, AsyncFederatedAnalyticsAPI),
]


@pytest.mark.parametrize(("sync", "twin"), TWINS, ids=lambda it: it.__name__)
def test_an_async_twin_has_every_method_of_its_synchronous_client(sync: type[Any], twin: type[Any]) -> None:
    methods = {name for name, _ in inspect.getmembers(sync, inspect.isfunction) if not name.startswith("_")}

    assert methods <= set(dir(twin))


def test_an_async_twin_answers_as_its_synchronous_client(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("GET", "/models/m", Reply.of_json({"id": "m", "name": "digits"}))
    server.on("PATCH", "/models/m", Reply.of_json({"id": "m", "name": "letters"}))

    async def both() -> list[str]:
        async with AsyncModelRegistry(lambda: "t", "clinic-a", server.api_base) as registry:
            return [
                (await registry.get_model("m")).name,
                (await registry.update_model("m", name="letters")).name,
            ]

    assert asyncio.run(both()) == ["digits", "letters"]
