"""Rounds whose updates travel coded: the same results, a fraction of the bytes, nothing lost on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeml_client import FederatedClient
from edgeml_client.errors import FilterConfigError, RoundStateError, UnprocessableError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding import Coding, encode_coded
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.outbox import Outbox
from edgeml_server import EmbeddedServer
from edgeml_server.errors import InvalidContentError
from tests.e2e.devices import ORG, Enrol

SIZE = 20_000
STATE = {"body": np.zeros(SIZE, np.float32), "head": np.zeros(10, np.float32), "steps": np.array(7)}
TOP_TENTH = {"type": "sparsification", "top_k": 0.1}
CODED = [{"type": "error_feedback"}, TOP_TENTH, {"type": "quantization", "bits": 4}]


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        running.register_model(org_id=ORG, name="model", state=STATE)
        yield running


def delta(seed: int) -> dict[str, np.ndarray]:
    """Whole numbers with few bits: sums and four-bit levels of them are easy to follow."""
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(-60, 61, STATE[name].shape).astype(np.float32) for name in ("body", "head")
    }


def take_part(client: FederatedClient, change: dict[str, np.ndarray], **more: Any) -> int:
    """Send ``change`` as the update of the next round; return the bytes that went out."""
    assignment = client.get_round_assignment(model="model", wait_s=30)
    assert assignment is not None
    taking_part = client.join_round(assignment)
    taking_part.download()
    assert taking_part.submit(change, sample_count=2, **more).status == "accepted"
    client.wait_for_round(assignment.round_id, timeout_s=30)
    return taking_part.num_bytes_sent


def test_a_coded_round_adds_the_mean_of_the_largest_changes(server: EmbeddedServer, enrol: Enrol) -> None:
    client = enrol("mri-1")
    server.create_round(org_id=ORG, model="model", config={"filters": [TOP_TENTH]})
    change = delta(1)

    num_bytes = take_part(client, change)

    flat = np.concatenate([change["body"], change["head"]])
    kept = np.sort(np.argsort(-np.abs(flat), kind="stable")[: -(-flat.size // 10)])
    expected = np.zeros_like(flat)
    expected[kept] = flat[kept]
    arrays = client.pull_global_model("model").numpy_arrays()
    np.testing.assert_array_equal(np.concatenate([arrays["body"], arrays["head"]]), expected)
    assert arrays["steps"] == 7
    assert num_bytes < 0.5 * flat.size  # index 0.06 and values 0.4 bytes a number, against 4


def test_error_feedback_sends_everything_in_the_end(
    server: EmbeddedServer, enrol: Enrol, tmp_path: Path
) -> None:
    """After three rounds the global model plus what the device keeps is the sum of the three changes."""
    client = enrol("mri-1")
    opened = server.create_round(org_id=ORG, model="model", num_rounds=3, config={"filters": CODED})

    sizes = [take_part(client, delta(seed)) for seed in range(3)]

    assert max(sizes) < 0.13 * SIZE + 1_000
    arrays = client.pull_global_model("model").numpy_arrays()
    rest = DeltaVector.of({"body": np.zeros(SIZE, np.float32), "head": np.zeros(10, np.float32)})
    store = ResidualStore(client.device_dir / "residuals")
    residual = store.open(rest.layout, model_id=opened.model_id or "", round_id="after")
    residual.add_to_(rest.values, start=0)
    assert rest.norm() > 0
    for name, kept in rest.views().items():
        trained = sum(delta(seed)[name].astype(np.float64) for seed in range(3))
        np.testing.assert_allclose(arrays[name] + kept, trained, atol=1e-3)


def test_two_devices_send_the_same_random_numbers_and_others_in_each_round(
    server: EmbeddedServer, enrol: Enrol
) -> None:
    """What changes is the mean of both, (60 + 20) / 2 = 40, where both sent: at a tenth of all positions.

    With 2 bits a block of equal values has them on its grid, {-m, 0, m}; the excluded head never changes.
    """
    clients = [enrol("mri-1"), enrol("mri-2")]
    filters = [
        {"type": "exclude", "names": ["head"]},
        {"type": "sparsification", "random_k": 0.1, "seed": 5},
        {"type": "quantization", "bits": 2, "rounding": "stochastic"},
    ]
    server.create_round(org_id=ORG, model="model", num_rounds=2, min_updates=2, config={"filters": filters})
    versions = [STATE["body"]]
    for _ in range(2):
        assignments = [client.get_round_assignment(model="model", wait_s=30) for client in clients]
        for client, assignment, value in zip(clients, assignments, (60.0, 20.0), strict=True):
            assert assignment is not None
            taking_part = client.join_round(assignment)
            taking_part.download()
            change = {name: np.full_like(STATE[name], value) for name in ("body", "head")}
            taking_part.submit(change, sample_count=1)
            assert taking_part.num_bytes_sent < 0.12 * SIZE + 1_000
        assert assignments[0] is not None
        clients[0].wait_for_round(assignments[0].round_id, timeout_s=30)
        arrays = clients[0].pull_global_model("model").numpy_arrays()
        assert not arrays["head"].any()
        versions.append(arrays["body"])

    first, second = (after - before for before, after in pairwise(versions))
    for changed in (first, second):
        np.testing.assert_allclose(changed[changed != 0], 40.0)
        assert abs(np.count_nonzero(changed) - 0.1 * SIZE) < 11
    assert np.count_nonzero(first * second) < 0.03 * SIZE  # a tenth of a tenth, by chance


def test_devices_with_and_without_private_arrays_are_averaged(server: EmbeddedServer, enrol: Enrol) -> None:
    """The head comes from one device alone; the body is the mean of equal weights: (4 + 0) / 2 = 2."""
    clients = [enrol("mri-1"), enrol("mri-2")]
    server.create_round(
        org_id=ORG,
        model="model",
        min_updates=2,
        config={"filters": [{"type": "quantization", "bits": 16}]},
    )
    rounds = []
    for client, value, private in zip(clients, (4.0, 0.0), ((), ("head",)), strict=True):
        assignment = client.get_round_assignment(model="model", wait_s=30)
        assert assignment is not None
        rounds.append(client.join_round(assignment))
        rounds[-1].download()
        change = {name: np.full_like(STATE[name], value) for name in ("body", "head") if name not in private}
        rounds[-1].submit(change, sample_count=1, private=private)
    clients[0].wait_for_round(rounds[0].round_id, timeout_s=30)

    arrays = clients[0].pull_global_model("model").numpy_arrays()
    np.testing.assert_allclose(arrays["body"], 2.0, rtol=1e-4)
    np.testing.assert_allclose(arrays["head"], 4.0, rtol=1e-4)


def test_a_second_update_of_a_round_is_not_made_from_the_residual_of_the_first(
    server: EmbeddedServer, enrol: Enrol
) -> None:
    client = enrol("mri-1")
    enrol("mri-2")
    round_id = server.create_round(
        org_id=ORG, model="model", min_updates=2, config={"filters": CODED}
    ).round_id
    first, second = client.join_round(round_id), client.join_round(round_id)
    first.download()
    second.download()
    first.submit(delta(1), sample_count=1)

    with pytest.raises(RoundStateError, match="already made its update"):
        second.submit(delta(2), sample_count=1)


def test_a_round_with_error_feedback_in_the_wrong_place_is_not_opened(server: EmbeddedServer) -> None:
    with pytest.raises(InvalidContentError, match="directly before"):
        server.create_round(org_id=ORG, model="model", config={"filters": [{"type": "error_feedback"}]})


def test_filters_of_the_device_end_the_list(server: EmbeddedServer, enrol: Enrol) -> None:
    client = enrol("mri-1")
    server.create_round(org_id=ORG, model="model", config={"clip_norm": 1.0})

    num_bytes = take_part(client, delta(1), filters=[TOP_TENTH, {"type": "quantization", "bits": 8}])

    assert num_bytes < 0.16 * SIZE + 1_000


def test_a_coded_update_with_nan_is_refused_and_changes_nothing(server: EmbeddedServer, enrol: Enrol) -> None:
    client = enrol("mri-1")
    round_id = server.create_round(org_id=ORG, model="model").round_id
    assignment = client.get_round_assignment(model="model", wait_s=30)
    assert assignment is not None
    header = UpdateHeader(
        round_id=round_id,
        model_id=assignment.model_id,
        base_version=assignment.version,
        base_digest=assignment.base_digest or "",
        device_id=client.register(),
        sample_count=1,
    )
    data = encode_coded(header, DeltaVector.of(delta(1)), coding=Coding(values="float32"), fraction=0.1)
    Outbox(client.device_dir / "outbox").put(with_nan(data))

    report = client.flush_outbox()

    assert [type(refusal) for refusal in report.rejected] == [UnprocessableError]
    assert "holds NaN or Inf" in str(report.rejected[0])
    assert server.get_round(round_id).num_updates == 0


def with_nan(data: bytes) -> bytes:
    """Return a file of float32 values whose first value is NaN, which no writer of ours writes."""
    length = int.from_bytes(data[:8], "little")
    start, _ = json.loads(data[8 : 8 + length])["edgeml.values"]["data_offsets"]
    first = 8 + length + int(start)
    return data[:first] + np.float32([np.nan]).tobytes() + data[first + 4 :]


def test_a_filter_that_cannot_work_is_refused_before_training(server: EmbeddedServer, enrol: Enrol) -> None:
    client = enrol("mri-1")
    server.create_round(org_id=ORG, model="model")
    assignment = client.get_round_assignment(model="model", wait_s=30)
    assert assignment is not None
    wrong = assignment.model_copy(
        update={"config": assignment.config.model_copy(update={"filters": ({"type": "error_feedback"},)})}
    )

    with pytest.raises(FilterConfigError, match="directly before"):
        client.join_round(wrong)


def test_factors_of_a_low_rank_reach_the_next_version_and_the_rest_the_one_after_it(
    server: EmbeddedServer, enrol: Enrol
) -> None:
    """A change of rank 2, sent in rank 1: error feedback sends the larger half first, the other one next.

    100 x 80 numbers take 32,000 bytes as float32; rank 1 takes 180 numbers, 720 bytes.
    """
    server.register_model(org_id=ORG, name="matrix", state={"w": np.zeros((100, 80), np.float32)})
    filters = [{"type": "error_feedback"}, {"type": "low_rank", "rank": 1}]
    server.create_round(org_id=ORG, model="matrix", num_rounds=2, config={"filters": filters})
    change = np.zeros((100, 80), np.float32)
    change[:50, :40], change[50:, 40:] = 4.0, 1.0
    client = enrol("mri-1")

    arrived: list[Any] = []
    for update in (change, np.zeros_like(change)):
        assignment = client.get_round_assignment(model="matrix", wait_s=30)
        assert assignment is not None
        taking_part = client.join_round(assignment)
        taking_part.download()
        taking_part.submit({"w": update}, sample_count=1)
        assert taking_part.num_bytes_sent < 720 + 2_000
        status = client.wait_for_round(assignment.round_id, timeout_s=30)
        assert status.new_version is not None
        arrived.append(client.pull_global_model("matrix", status.new_version).numpy_arrays()["w"])

    np.testing.assert_allclose(arrived[0], np.where(change == 4.0, change, 0), atol=1e-4)
    np.testing.assert_allclose(arrived[1], change, atol=1e-4)
