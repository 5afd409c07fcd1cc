"""Checked by the type checker, never run: what users of the device's client see."""

from collections.abc import Mapping
from typing import Any, assert_type

import numpy as np

from edgeml_client import (
    AsyncFederatedClient,
    DeltaFilter,
    FederatedClient,
    FilterRegistry,
    FilterResult,
    GlobalModel,
    ProximalTerm,
    apply_filters,
    compute_state_dict_delta,
)
from edgeml_client.filters import AuditEntry, FilterEffects, Sensitivity, Sparsity
from edgeml_client.rounds import DittoResult
from edgeml_client.schemas import RoundAssignment, RoundStatus, UpdateReceipt


class Halve(DeltaFilter):
    effects = FilterEffects(sensitivity=Sensitivity.KEEPS, sparsity=Sparsity.KEEPS, bits_per_number=None)

    def process(self, delta: dict[str, Any], config: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return {name: array * 0.5 for name, array in delta.items()}


def train(state: dict[str, Any]) -> tuple[dict[str, Any], int, dict[str, float]]:
    return state, 10, {"loss": 0.1}


def train_with_term(
    state: dict[str, Any], /, *, proximal: ProximalTerm | None
) -> tuple[dict[str, Any], int, None]:
    if proximal is not None:
        state["w"] = state["w"] - 0.1 * proximal.gradient("w", state["w"])
    return state, 10, None


def token() -> str:
    return "token"


def take_part(client: FederatedClient) -> None:
    assert_type(client.register(), str)
    assignment = client.get_round_assignment(model="digits", wait_s=20)
    assert_type(assignment, RoundAssignment | None)
    if assignment is None:
        return
    assert_type(client.participate_in_round(assignment.round_id, train), UpdateReceipt)
    assert_type(client.participate_in_round(assignment.round_id, train_with_term, "numpy"), UpdateReceipt)
    assert_type(client.wait_for_round(assignment.round_id, timeout_s=60), RoundStatus)
    taking_part = client.join_round(assignment)
    model = taking_part.download()
    assert_type(model, GlobalModel)
    delta = compute_state_dict_delta(model.numpy_arrays(), model.numpy_arrays())
    taking_part.submit(delta, sample_count=1, private=["head.w"], filters=[Halve(), {"type": "halve"}])


def personalize(client: FederatedClient) -> None:
    state = {"w": np.zeros(2)}
    result = client.train_ditto(state, state, train_with_term, lambda_ditto=0.1)
    assert_type(result, DittoResult)
    global_update, _personal_update, sample_count, _metrics = result
    client.upload_personalized_update(global_update, {"samples": sample_count})
    body, count, _ = client.train_fedper(state, ["head"], train)
    assert_type(body, dict[str, Any])
    assert_type(count, int)


def filtering() -> None:
    FilterRegistry.register("halve", Halve)
    result = apply_filters(
        {"w": np.ones(2)}, [{"type": "halve"}, Halve()], generator=np.random.default_rng(0)
    )
    assert_type(result, FilterResult)
    assert_type(result.audit_trail, tuple[AuditEntry, ...])
    assert_type(result.audit_trail[0].norm_after, float)


async def asynchronous() -> None:
    async with AsyncFederatedClient(token, org_id="clinic-a", timeout=5.0) as client:
        assert_type(await client.get_round_assignment(wait_s=5), RoundAssignment | None)
        assert_type(await client.participate_in_round("r-1", train), UpdateReceipt)
        assert_type(await client.pull_global_model("digits"), GlobalModel)
