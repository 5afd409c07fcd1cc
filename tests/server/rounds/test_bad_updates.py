"""What an untrusted device may send as an update, and what it is told; the round stays as it was."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from edgeml_client.updates.layout import ArraySpec
from edgeml_client.updates.safetensors_header import build_header
from edgeml_client.updates.update_file import encode_update
from edgeml_server import EmbeddedServer, Settings
from tests.server.rounds.fleet import Fleet, FleetDevice, content_digest, fleet_on

Assignment = dict[str, Any]
W, B = np.ones((2, 3), np.float32), np.ones(3, np.float32)


def file_of(device: FleetDevice, assignment: Assignment, **arrays: np.ndarray) -> bytes:
    return encode_update(device.header(assignment), arrays)


def raw_file(device: FleetDevice, assignment: Assignment, *, bad: float) -> bytes:
    """An update with a number that our own encoder refuses to write."""
    good = device.update(assignment)
    return good[:-4] + np.float32([bad]).tobytes()


def with_header(device: FleetDevice, assignment: Assignment, **changes: Any) -> bytes:
    """An update whose envelope was changed by hand, past all checks."""
    envelope = json.loads(device.header(assignment).model_dump_json()) | changes
    specs = (ArraySpec("b", (3,), "F32"), ArraySpec("w", (2, 3), "F32"))
    return build_header(specs, {"edgeml.update": json.dumps(envelope)}) + B.tobytes() + W.tobytes()


def of_dtype_f16(device: FleetDevice, assignment: Assignment) -> bytes:
    specs = (ArraySpec("b", (3,), "F16"), ArraySpec("w", (2, 3), "F16"))
    metadata = {"edgeml.update": device.header(assignment).model_dump_json()}
    return build_header(specs, metadata) + np.ones(9, np.float16).tobytes()


BAD: dict[str, tuple[Callable[[FleetDevice, Assignment], bytes], int, str]] = {
    "missing array": (lambda d, a: file_of(d, a, w=W), 422, "missing b: F32[3]"),
    "extra array": (lambda d, a: file_of(d, a, w=W, b=B, x=B), 422, "unexpected x: F32[3]"),
    "misshapen array": (
        lambda d, a: file_of(d, a, w=W.T.copy(), b=B),
        422,
        "w: expected shape [2, 3], got [3, 2]",
    ),
    "other dtype": (of_dtype_f16, 422, "expected dtype F32, got F16"),
    "counter": (lambda d, a: with_header(d, a, private=["steps"]), 422, "steps"),
    "nan": (lambda d, a: raw_file(d, a, bad=np.nan), 422, "array 'w' holds NaN or Inf"),
    "inf": (lambda d, a: raw_file(d, a, bad=-np.inf), 422, "array 'w' holds NaN or Inf"),
    "nothing shared": (lambda d, a: encode_update(d.header(a, private=["w", "b"]), {}), 422, "is private"),
    "no samples": (lambda d, a: d.update(a, sample_count=0), 422, "sample_count is 0"),
    "too many samples": (lambda d, a: d.update(a, sample_count=2**40), 422, "sample_count is 1099511627776"),
    "nan metric": (lambda d, a: with_header(d, a, metrics={"loss": float("nan")}), 422, "loss"),
    "many metrics": (
        lambda d, a: d.update(a, metrics={f"m{i}": 0.0 for i in range(300)}),
        422,
        "300 metrics",
    ),
    "other round": (lambda d, a: d.update(a, round_id="round_x"), 422, "header says round_id 'round_x'"),
    "other model": (lambda d, a: d.update(a, model_id="mdl_x"), 422, "header says model_id 'mdl_x'"),
    "other device": (lambda d, a: d.update(a, device_id="dev_x"), 422, "header says device_id 'dev_x'"),
    "other version": (lambda d, a: d.update(a, base_version="0"), 412, "this round starts from '1'"),
    "other base": (lambda d, a: d.update(a, base_digest="sha256:" + "0" * 64), 412, "train again"),
    "unknown header key": (lambda d, a: with_header(d, a, trust="me"), 422, "trust"),
    "other format": (lambda d, a: with_header(d, a, format="edgeml-delta/9"), 422, "format"),
    "truncated": (lambda d, a: d.update(a)[:-5], 422, "the header describes"),
    "cut in the header": (lambda d, a: d.update(a)[:40], 422, "truncated"),
    "empty": (lambda d, a: b"", 422, "empty"),
    "no safetensors": (lambda d, a: b"PK\x03\x04" + bytes(100), 422, "not an update file"),
    "a model": (lambda d, a: build_header((), {}), 422, "not an update file"),
    "too large": (lambda d, a: d.update(a) + bytes(1 << 20), 413, "at most"),
}  # fmt: skip


@pytest.fixture(scope="module")
def standing(server: EmbeddedServer) -> Iterator[tuple[Fleet, FleetDevice, Assignment]]:
    """A round that waits for two devices, which no bad update changes."""
    with fleet_on(server) as fleet:
        device, _ = fleet.add_devices(2)
        fleet.open_round(min_updates=2)
        yield fleet, device, device.assignments()[0]


@pytest.mark.parametrize(("make", "status_code", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_bad_update_is_refused_and_changes_nothing(
    standing: tuple[Fleet, FleetDevice, Assignment],
    make: Callable[[FleetDevice, Assignment], bytes],
    status_code: int,
    sentence: str,
) -> None:
    fleet, device, assignment = standing

    answer = device.send(assignment["round_id"], make(device, assignment))

    assert answer.status_code == status_code, answer.text
    assert sentence in answer.json()["detail"]
    assert answer.json()["request_id"]
    assert fleet.status(assignment["round_id"])["num_updates"] == 0
    assert device.assignments() == [assignment]


@pytest.mark.parametrize(
    ("headers", "status_code", "sentence"),
    [
        ({"Content-Digest": content_digest(b"something else")}, 400, "damaged or cut short"),
        ({"Content-Digest": "sha-256=:AAAA:"}, 400, "not 32 bytes"),
        ({"Content-Digest": "sha-256=:=:"}, 400, "not 32 bytes"),
        ({"Content-Type": "application/json"}, 415, "application/vnd.edgeml.update"),
    ],
)
def test_headers_that_contradict_the_body_are_refused(
    standing: tuple[Fleet, FleetDevice, Assignment], headers: dict[str, str], status_code: int, sentence: str
) -> None:
    fleet, device, assignment = standing

    answer = device.send(assignment["round_id"], device.update(assignment), **headers)

    assert answer.status_code == status_code
    assert sentence in answer.json()["detail"]
    assert fleet.status(assignment["round_id"])["num_updates"] == 0


def test_a_chunked_body_over_the_limit_is_refused_too(
    standing: tuple[Fleet, FleetDevice, Assignment],
) -> None:
    _, device, assignment = standing
    chunks = iter([device.update(assignment), bytes(300_000)])

    answer = device.http.post(f"/training/rounds/{assignment['round_id']}/updates", content=chunks)

    assert answer.status_code == 413
    assert "send the arrays of the registered model only" in answer.json()["detail"]


def test_a_body_that_ends_too_early_leaves_nothing_behind(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, fleet_on(server) as fleet:
        (device,) = fleet.add_devices(1)
        fleet.open_round(min_updates=1)
        (assignment,) = device.assignments()
        address = urlsplit(server.url)
        head = (
            f"POST /api/v1/training/rounds/{assignment['round_id']}/updates HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: {device.http.headers['Authorization']}\r\nContent-Length: 400\r\n"
            "Content-Type: application/vnd.edgeml.update\r\n\r\n"
        )
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(head.encode() + device.update(assignment)[:100])
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65_536)

        assert fleet.status(assignment["round_id"])["num_updates"] == 0

    # The sender may see the end before the server has tidied up; once closed, the server has.
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


def test_an_unknown_or_foreign_round_is_not_found(standing: tuple[Fleet, FleetDevice, Assignment]) -> None:
    fleet, device, assignment = standing
    (late,) = fleet.add_devices(1)

    assert device.send("round_none", device.update(assignment)).status_code == 404
    assert late.send(assignment["round_id"], late.update(assignment)).status_code == 404


def test_a_device_that_never_registered_is_told_to(server: EmbeddedServer) -> None:
    with fleet_on(server) as fleet:
        (device,) = fleet.add_devices(1)
        fleet.open_round()
        assignment = device.assignments()[0]
        stranger = FleetDevice(server, fleet.org, "never-registered", registers=False)
        fleet.devices.append(stranger)

        answers = [
            stranger.send(assignment["round_id"], stranger.update(assignment)),
            stranger.http.get("/training/rounds"),
        ]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert all("POST /devices/register" in answer.json()["detail"] for answer in answers)


def test_without_a_content_digest_the_file_itself_is_checked(server: EmbeddedServer) -> None:
    with fleet_on(server) as fleet:
        (device,) = fleet.add_devices(1)
        fleet.open_round()
        assignment = device.assignments()[0]
        body = device.update(assignment)

        answer = device.http.post(
            f"/training/rounds/{assignment['round_id']}/updates",
            content=body,
            headers={"Content-Type": "application/octet-stream", "Content-Digest": "md5=:AAAA:"},
        )

        assert answer.status_code == 201


def test_an_update_of_arrays_without_a_number_is_refused(server: EmbeddedServer) -> None:
    """A model may have an empty array; an update of that alone shares nothing, and counts for nothing."""
    with fleet_on(server) as fleet:
        (device,) = fleet.add_devices(1)
        state = {"w": np.zeros(2, np.float32), "empty": np.zeros((0, 3), np.float32)}
        server.register_model(org_id=fleet.org, name="with-empty", state=state)
        server.create_round(org_id=fleet.org, model="with-empty")
        (assignment,) = device.assignments()
        shared = {"empty": state["empty"]}

        refused = device.send(
            assignment["round_id"], encode_update(device.header(assignment, private=["w"]), shared)
        )
        taken = device.send(
            assignment["round_id"],
            encode_update(device.header(assignment), shared | {"w": np.ones(2, np.float32)}),
        )

    assert (refused.status_code, taken.status_code) == (422, 201)
    assert "the update holds no number" in refused.json()["detail"]


def test_the_limit_of_the_whole_server_holds_before_that_of_the_model() -> None:
    with EmbeddedServer(settings=Settings(max_body_bytes=1024)) as server, fleet_on(server) as fleet:
        (device,) = fleet.add_devices(1)
        fleet.open_round()
        assignment = device.assignments()[0]

        answer = device.send(
            assignment["round_id"], device.update(assignment, metrics={"m" * 150: 1.0}) + bytes(1024)
        )

        assert answer.status_code == 413
