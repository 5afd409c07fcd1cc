"""A round on a device: the right model, the right delta, the right envelope, exactly once."""

import base64
import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client import DeltaFilter, FederatedClient, ProximalTerm
from edgeml_client.errors import (
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    FilterConfigError,
    InvalidResponseError,
    InvalidUpdateError,
    ModelMismatchError,
    NonFiniteError,
    NormExceededError,
    RequestRefusedError,
    RoundClosedError,
    RoundStateError,
    StaleBaseError,
    UnauthorizedError,
    UnprocessableError,
)
from edgeml_client.rounds import RoundStep
from edgeml_client.testing import Exchange, Reply
from edgeml_client.updates import UpdateFile, layout_of, open_update
from edgeml_client.updates.coding import select_random
from edgeml_client.updates.model_file import digest_of
from edgeml_client.updates.torch_format import loads_state_dict
from tests.client.federated.scripted_plane import NEW, STATE, ScriptedPlane

UPDATES = "/training/rounds/r-1/updates"
DELTA = {"body.w": np.array([0.5, -0.5], np.float32), "head.w": np.array([1.0], np.float32)}


def _add_one(state: dict[str, Any]) -> Any:
    """Train in place."""
    for name in state:
        state[name] += 1
    return state, 12, {"loss": 0.25, "broken": float("nan")}


def _received(plane: ScriptedPlane, path: str = UPDATES) -> UpdateFile:
    return open_update(plane.server.requests("POST", path)[-1].body, layout_of(STATE))


def _outbox(client: FederatedClient) -> list[Path]:
    return sorted((client.device_dir / "outbox").glob("*.update"))


@pytest.mark.parametrize("array_format", ["auto", "pytorch", "numpy"])
def test_training_in_place_does_not_destroy_the_delta(
    plane: ScriptedPlane, client: FederatedClient, array_format: Any
) -> None:
    receipt = client.participate_in_round("r-1", _add_one, array_format)

    arrays = dict(_received(plane).arrays())
    assert receipt.status == "accepted"
    assert {name: array.tolist() for name, array in arrays.items()} == {"body.w": [1, 1], "head.w": [1]}


def test_the_envelope_says_what_was_trained_from_what(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.offer({"filters": [{"type": "gradient_clip", "max_norm": 100.0}]})
    client.participate_in_round("r-1", _add_one)

    header = _received(plane).header

    assert (header.round_id, header.model_id, header.base_version, header.device_id) == (
        "r-1",
        "m-1",
        "3",
        "dev-1",
    )
    assert header.base_digest == digest_of(plane.model_file)
    assert (header.sample_count, header.metrics, header.private) == (12, {"loss": 0.25}, ())
    assert header.filters == ({"type": "gradient_clip", "parameters": {"max_norm": 100.0}},)


def test_an_upload_proves_its_content_and_can_be_repeated(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    client.participate_in_round("r-1", _add_one)

    (request,) = plane.server.requests("POST", UPDATES)
    sha256 = hashlib.sha256(request.body)
    assert request.headers["content-type"] == "application/vnd.edgeml.update"
    assert request.headers["content-digest"] == f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:"
    key = hashlib.sha256(b"r-1\0dev-1\0" + sha256.digest()).hexdigest()
    assert request.headers["idempotency-key"] == key


def test_an_old_control_plane_gets_base64_in_json(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.announce()
    client.participate_in_round("r-1", _add_one)

    body = plane.server.requests("POST", "/training/weights")[0].json

    weights = loads_state_dict(base64.b64decode(body.pop("weights_data")), max_bytes=10_000)
    assert {name: array.tolist() for name, array in weights.items()} == {"body.w": [1, 1], "head.w": [1]}
    assert body == {
        "model_id": "m-1",
        "version": "3",
        "device_id": "dev-1",
        "round_id": "r-1",
        "sample_count": 12,
        "metrics": {"loss": 0.25},
        "update_format": "delta",
    }


def test_a_round_may_announce_what_health_does_not(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.announce("models.safetensors")
    plane.offer({"capabilities": ["updates.binary"]})

    client.participate_in_round("r-1", _add_one)

    assert len(plane.server.requests("POST", UPDATES)) == 1


def test_the_rounds_filters_run_in_order_and_then_ones_own(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    """The delta (1, 1, 1) has norm sqrt(3): clipped to 1, doubled by the caller's filter, it has norm 2."""

    class Doubled(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
            return {name: array * 2 for name, array in delta.items()}

    plane.offer({"clip_norm": 1.0, "filters": [{"type": "norm_validation", "max_norm": 1.0}]})
    taking_part = client.join_round("r-1")
    taking_part.download()

    taking_part.submit(
        {name: np.ones_like(d) for name, d in DELTA.items()}, sample_count=1, filters=[Doubled()]
    )

    update = _received(plane)
    assert update.check_finite() == pytest.approx(2.0, rel=1e-6)
    assert [entry["type"] for entry in update.header.filters] == [
        "gradient_clip",
        "norm_validation",
        "Doubled",
    ]


def test_a_filter_the_device_cannot_apply_stops_the_round_before_training(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"filters": [{"type": "homomorphic"}]})

    with pytest.raises(FilterConfigError, match="homomorphic"):
        client.participate_in_round("r-1", lambda _: pytest.fail("trained"))


def test_a_filter_that_names_no_array_of_the_model_stops_the_round_before_training(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"filters": [{"type": "exclude", "names": ["haed"]}]})

    with pytest.raises(FilterConfigError, match=r"'haed' matches no floating array .* body\.w, head\.w"):
        client.participate_in_round("r-1", lambda _: pytest.fail("trained"))


def test_ones_own_filters_are_checked_against_the_model_before_training(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"clip_norm": 1.0, "filters": [{"type": "gaussian_noise", "sigma": 0.1}]})
    taking_part = client.join_round("r-1")
    taking_part.download()

    with pytest.raises(FilterConfigError, match="'haed' matches no floating array"):
        taking_part.check_filters([{"type": "only", "names": ["haed"]}])
    with pytest.raises(FilterConfigError, match="'sparsification' may not follow 'gaussian_noise'"):
        taking_part.check_filters([{"type": "sparsification", "top_k": 0.5}])


def test_random_k_chooses_anew_in_each_round_and_alike_on_all_devices(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"filters": [{"type": "sparsification", "random_k": 0.5, "seed": 11}]})

    client.participate_in_round("r-1", _add_one)

    sent = [x for _, array in _received(plane).arrays() for x in array.tolist()]
    (chosen,) = select_random(3, count=2, seed=11, round_id="r-1")
    assert np.flatnonzero(sent).tolist() == chosen.tolist()


def test_a_fedper_head_stays_on_the_device(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.offer({"head_layers": ["head"]})

    client.participate_in_round("r-1", _add_one)

    update = _received(plane)
    assert update.header.private == ("head.w",)
    assert update.layout.names == ("body.w",)


def test_a_head_that_matches_nothing_stops_the_round_before_training(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"head_layers": ["classifier"]})

    with pytest.raises(ConfigurationError, match="the module paths are: body, head"):
        client.participate_in_round("r-1", lambda _: pytest.fail("trained"))


def test_a_head_that_is_the_whole_model_stops_the_round_before_training(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"head_layers": ["head", "body"]})

    with pytest.raises(ConfigurationError, match="head_layers takes the whole model"):
        client.participate_in_round("r-1", lambda _: pytest.fail("trained"))


def test_fedprox_hands_the_received_model_to_a_loop_that_takes_it(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer({"proximal_mu": 0.25})
    terms: list[ProximalTerm | None] = []

    def train(state: dict[str, Any], *, proximal: ProximalTerm | None = None) -> Any:
        terms.append(proximal)
        return _add_one(state)

    client.participate_in_round("r-1", train, "numpy")

    (term,) = terms
    assert term is not None
    assert term.strength == 0.25
    assert term.anchor["body.w"].tolist() == [1, 2]


def test_fedprox_is_never_imitated_after_training(
    plane: ScriptedPlane, client: FederatedClient, caplog: pytest.LogCaptureFixture
) -> None:
    plane.offer({"proximal_mu": 0.25})

    with caplog.at_level(logging.WARNING):
        client.participate_in_round("r-1", _add_one)

    assert dict(_received(plane).arrays())["body.w"].tolist() == [1, 1]
    assert "trains without the term" in caplog.text


def test_the_array_format_must_be_known(plane: ScriptedPlane, client: FederatedClient) -> None:
    with pytest.raises(ConfigurationError, match="format must be one of auto, pytorch"):
        client.participate_in_round("r-1", _add_one, "onnx")  # type: ignore[arg-type]


def test_the_steps_come_in_order(plane: ScriptedPlane, client: FederatedClient) -> None:
    taking_part = client.join_round("r-1")
    with pytest.raises(RoundStateError, match=r"call download\(\) first"):
        taking_part.submit(DELTA, sample_count=1)

    model = taking_part.download()
    assert taking_part.download() is model
    assert taking_part.step is RoundStep.DOWNLOADED
    taking_part.submit(DELTA, sample_count=1)

    assert repr(taking_part) == "DeviceRound('r-1', submitted)"
    for again in (taking_part.download, lambda: taking_part.submit(DELTA, sample_count=1)):
        with pytest.raises(RoundStateError, match="accepted"):
            again()


def test_a_round_counts_its_bytes_and_tells_its_status(plane: ScriptedPlane, client: FederatedClient) -> None:
    assignment = client.get_round_assignment()
    assert assignment is not None
    taking_part = client.join_round(assignment)
    taking_part.download()
    taking_part.submit(DELTA, sample_count=1)

    assert taking_part.num_bytes_received == len(plane.model_file)
    assert taking_part.num_bytes_sent == len(plane.server.requests("POST", UPDATES)[0].body)
    assert taking_part.status.state == "training"
    assert len(plane.server.requests("GET", "/models/m-1/versions/3/download")) == 1


def test_another_model_than_the_rounds_is_refused(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.offer(base_digest="sha256:0000")

    with pytest.raises(InvalidResponseError, match="should have digest sha256:0000"):
        client.join_round("r-1").download()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"delta": {"body.w": DELTA["body.w"]}}, ModelMismatchError, r"missing head\.w"),
        ({"delta": {**DELTA, "more": np.ones(1)}}, ModelMismatchError, "unexpected more"),
        ({"delta": {**DELTA, "head.w": np.ones(9)}}, ModelMismatchError, r"expected shape \[1\], got \[9\]"),
        ({"delta": {**DELTA, "head.w": np.array([np.nan])}}, NonFiniteError, r"head\.w"),
        ({"delta": {**DELTA, "head.w": np.array([np.inf])}}, NonFiniteError, r"head\.w"),
        ({"sample_count": 0}, InvalidUpdateError, "at least 1"),
        ({"private": ["tail"]}, ModelMismatchError, "tail"),
        ({"private": ["head.w"]}, ModelMismatchError, r"unexpected head\.w"),
        ({"filters": [{"type": "typo"}]}, FilterConfigError, "typo"),
        ({"filters": [{"type": "norm_validation", "max_norm": 0.1}]}, NormExceededError, "exceeds"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_stored(
    plane: ScriptedPlane, client: FederatedClient, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    taking_part = client.join_round("r-1")
    taking_part.download()

    with pytest.raises(error, match=message):
        taking_part.submit(**{"delta": DELTA, "sample_count": 1} | given)

    assert plane.server.requests("POST", UPDATES) == []
    assert _outbox(client) == []
    assert taking_part.submit(DELTA, sample_count=1).status == "accepted"


def test_private_counters_are_no_part_of_the_envelope(plane: ScriptedPlane, client: FederatedClient) -> None:
    taking_part = client.join_round("r-1")
    taking_part.download()

    taking_part.submit({"body.w": torch.zeros(2)}, sample_count=1, private=["head.w", "body.steps"])

    assert _received(plane).header.private == ("head.w",)


def test_a_lost_network_costs_no_training(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("POST", UPDATES, Reply(drop=True))
    taking_part = client.join_round("r-1")
    taking_part.download()

    with pytest.raises(ConnectionFailedError, match=r"is kept in .* and will be sent by flush_outbox\(\)"):
        taking_part.submit(DELTA, sample_count=1)

    assert len(_outbox(client)) == 1
    with pytest.raises(RoundStateError, match="in the outbox"):
        taking_part.submit(DELTA, sample_count=1)

    plane.server.on("POST", UPDATES, plane.receipt("duplicate"))
    report = client.flush_outbox()

    assert [receipt.status for receipt in report.receipts] == ["duplicate"]
    assert _outbox(client) == []
    first, second = plane.server.requests("POST", UPDATES)
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_a_disk_that_cannot_be_written_leaves_the_round_open(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    taking_part = client.join_round("r-1")
    taking_part.download()
    client.device_dir.parent.mkdir(exist_ok=True)
    client.device_dir.write_text("a file where the folder should be")

    with pytest.raises(ConfigurationError, match="writable folder as state_dir"):
        taking_part.submit(DELTA, sample_count=1)

    client.device_dir.unlink()
    assert taking_part.submit(DELTA, sample_count=1).status == "accepted"


def test_the_next_start_sends_what_waits(
    plane: ScriptedPlane, client: FederatedClient, tmp_path: Path
) -> None:
    plane.server.on("POST", UPDATES, Reply(drop=True))
    with pytest.raises(ConnectionFailedError):
        client.participate_in_round("r-1", _add_one)
    plane.server.on("POST", UPDATES, plane.receipt())

    with plane.client(tmp_path / "state") as restarted:
        restarted.register()

        assert _outbox(restarted) == []
    assert len(plane.server.requests("POST", UPDATES)) == 2


def test_a_start_without_a_network_keeps_what_waits(
    plane: ScriptedPlane, client: FederatedClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plane.server.on("POST", UPDATES, Reply(drop=True))
    with pytest.raises(ConnectionFailedError):
        client.participate_in_round("r-1", _add_one)

    with plane.client(tmp_path / "state") as restarted:
        restarted.register()

        assert len(_outbox(restarted)) == 1
    assert "keep waiting" in caplog.text


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (409, ConflictError),
        (410, RoundClosedError),
        (412, StaleBaseError),
        (422, UnprocessableError),
        (415, UnprocessableError),
        (413, RequestRefusedError),
        (404, RequestRefusedError),
    ],
)
def test_what_is_refused_for_good_is_set_aside(
    plane: ScriptedPlane, client: FederatedClient, status: int, error: type[RequestRefusedError]
) -> None:
    plane.server.on("POST", UPDATES, Reply.of_json({"detail": "no, because"}, status=status))

    with pytest.raises(error, match="no, because"):
        client.participate_in_round("r-1", _add_one)

    assert _outbox(client) == []
    assert [path.name for path in (client.device_dir / "outbox" / "rejected").iterdir()] == ["r-1.update"]
    assert client.flush_outbox().receipts == ()


def test_a_flush_sets_aside_what_is_refused_and_sends_the_rest(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.server.on("POST", UPDATES, Reply(drop=True))
    with pytest.raises(ConnectionFailedError):
        client.participate_in_round("r-1", _add_one)
    plane.server.on("POST", UPDATES, Reply.of_json({"detail": "too late"}, status=410))

    report = client.flush_outbox()

    assert (len(report.receipts), report.num_waiting) == (0, 0)
    assert isinstance(report.rejected[0], RoundClosedError)


def test_a_coded_update_is_set_aside_when_the_control_plane_has_become_a_legacy_one(
    plane: ScriptedPlane, client: FederatedClient, tmp_path: Path
) -> None:
    """It cannot be sent any more, and must not keep the updates behind it waiting."""
    plane.announce(*NEW, "updates.coded")
    plane.offer({"filters": [{"type": "sparsification", "top_k": 0.5}, {"type": "quantization", "bits": 8}]})
    plane.server.on("POST", UPDATES, Reply(drop=True))
    with pytest.raises(ConnectionFailedError):
        client.participate_in_round("r-1", _add_one)
    plane.announce()

    with plane.client(tmp_path / "state") as restarted:
        restarted.flush_outbox()

    assert _outbox(client) == []
    assert [path.name for path in (client.device_dir / "outbox" / "rejected").iterdir()] == ["r-1.update"]


def test_filters_behind_those_of_the_round_are_checked_before_training(
    plane: ScriptedPlane, client: FederatedClient
) -> None:
    plane.offer(
        {
            "filters": [
                {"type": "error_feedback"},
                {"type": "sparsification", "top_k": 0.5},
                {"type": "quantization", "bits": 8},
            ]
        }
    )
    device_round = client.join_round("r-1")

    with pytest.raises(FilterConfigError, match="must stand directly before"):
        device_round.check_filters([{"type": "gradient_clip", "max_norm": 1.0}])


def test_a_token_that_is_refused_keeps_the_update(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("POST", UPDATES, Reply.of_json({"detail": "revoked"}, status=401))

    with pytest.raises(UnauthorizedError) as caught:
        client.participate_in_round("r-1", _add_one)

    assert "kept in" in caught.value.__notes__[0]
    assert len(_outbox(client)) == 1


def test_an_update_waits_while_another_process_sends(plane: ScriptedPlane, client: FederatedClient) -> None:
    plane.server.on("POST", UPDATES, Reply(drop=True))
    with pytest.raises(ConnectionFailedError):
        client.participate_in_round("r-1", _add_one)
    from edgeml_client.updates.outbox import Outbox  # noqa: PLC0415 - stands in for the other process

    with Outbox(client.device_dir / "outbox").sending(timeout_s=0):
        assert client.flush_outbox().num_waiting == 1


def test_uploads_are_repeated_after_a_lost_answer(plane: ScriptedPlane, tmp_path: Path) -> None:
    def lose_the_answer(_request: Exchange) -> Reply:
        return Reply(drop=True)

    plane.server.on("POST", UPDATES, lose_the_answer, plane.receipt("duplicate"))
    with plane.client(tmp_path / "other", max_attempts=3) as client:
        assert client.participate_in_round("r-1", _add_one).status == "duplicate"

    first, second = plane.server.requests("POST", UPDATES)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
