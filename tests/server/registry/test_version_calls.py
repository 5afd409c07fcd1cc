"""Versions over real sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from torch import nn

from edgeml_client.updates import ArraySpec, Layout, encode_model
from edgeml_server import EmbeddedServer
from edgeml_server.blobs import StoredBlob
from edgeml_server.db import Database
from edgeml_server.errors import ContradictionError, InvalidContentError
from edgeml_server.registry.models import ensure_model
from edgeml_server.registry.records import HeldVersion, NewVersion
from edgeml_server.registry.versions import (
    add_version,
    delete_version,
    latest_version,
    publish_version,
    trainable_layout,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ELSEWHERE = {
    "version": "1",
    "storage_path": "s3://bucket/model.onnx",
    "format": "onnx",
    "checksum": "abc",
    "size_bytes": 7,
}
LAYOUT = Layout.of([ArraySpec("w", (2,), "F32")])
BLOB = StoredBlob("sha256:" + "0" * 64, 96)

Upload = Callable[..., httpx.Response]


def test_the_latest_version_is_the_one_published_last(
    upload: Upload, operator: httpx.Client, model: str
) -> None:
    for version in ("1", "2", "3"):
        upload(b"x", "m.onnx", version=version)
    latest = partial(operator.get, f"{model}/versions/latest")

    before = latest()
    found = []
    for version in ("2", "1", "2"):
        operator.post(f"{model}/versions/{version}/publish", json={})
        found.append(latest().json()["version"])
    operator.post(f"{model}/versions/1/deprecate", json={})
    found.append(latest().json()["version"])

    assert before.status_code == 404
    assert "publish it" in before.json()["detail"]
    assert found == ["2", "1", "1", "2"], "publishing what is published already changes nothing"


def test_versions_are_listed_in_order_filtered_and_paged(
    upload: Upload, operator: httpx.Client, model: str
) -> None:
    for version in ("b", "a", "c"):
        upload(b"x", "m.onnx", version=version)
    operator.post(f"{model}/versions/a/publish", json={})

    everything = operator.get(f"{model}/versions").json()
    published = operator.get(f"{model}/versions", params={"status": "published"}).json()
    page = operator.get(f"{model}/versions", params={"limit": 1, "offset": 1}).json()
    wrong = operator.get(f"{model}/versions", params={"status": "good"})

    assert [version["version"] for version in everything["versions"]] == ["b", "a", "c"]
    assert ([version["version"] for version in published["versions"]], published["total"]) == (["a"], 1)
    assert [version["version"] for version in page["versions"]] == ["a"]
    assert wrong.status_code == 422


def test_a_version_kept_elsewhere_is_registered_but_not_handed_out(
    operator: httpx.Client, model: str
) -> None:
    created = operator.post(f"{model}/versions", json=ELSEWHERE | {"metrics": {"acc": 0.9}})

    assert created.status_code == 201
    assert created.json().items() >= (ELSEWHERE | {"metrics": {"acc": 0.9}, "trainable": False}).items()
    answer = operator.get(f"{model}/versions/1/download", params={"format": "onnx"})
    assert answer.status_code == 404
    assert "storage_path" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_bytes": -1},
        {"size_bytes": 2**63},
        {"format": "../x"},
        {"version": "latest"},
        {"storage_path": ""},
        {"checksum": None},
    ],
)
def test_a_registration_that_cannot_be_is_refused(
    operator: httpx.Client, model: str, wrong: dict[str, object]
) -> None:
    assert operator.post(f"{model}/versions", json=ELSEWHERE | wrong).status_code == 422


def test_metrics_are_merged(upload: Upload, operator: httpx.Client, model: str) -> None:
    upload(b"x", "m.onnx")
    operator.patch(f"{model}/versions/1/metrics", json={"metrics": {"acc": 0.8, "loss": 1.0}})

    changed = operator.patch(f"{model}/versions/1/metrics", json={"metrics": {"acc": 0.9}})

    assert changed.json()["metrics"] == {"acc": 0.9, "loss": 1.0}
    assert operator.get(f"{model}/versions/1").json()["metrics"] == {"acc": 0.9, "loss": 1.0}


def test_a_deleted_version_is_gone(upload: Upload, operator: httpx.Client, model: str) -> None:
    upload(b"x", "m.onnx")

    assert operator.delete(f"{model}/versions/1").status_code == 204
    assert operator.delete(f"{model}/versions/1").status_code == 404
    assert operator.get(f"{model}/versions/1").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("POST", "/publish"), ("POST", "/deprecate"), ("GET", "/download")],
)
def test_a_version_that_is_not_there_is_named(
    operator: httpx.Client, model: str, method: str, path: str
) -> None:
    answer = operator.request(method, f"{model}/versions/9{path}")

    assert answer.status_code == 404
    assert "no version '9'" in answer.json()["detail"]


def test_a_draft_does_not_become_one_again(upload: Upload, operator: httpx.Client, model: str) -> None:
    upload(b"x", "m.onnx")

    statuses = [
        operator.post(f"{model}/versions/1/{step}", json={}).json()["status"]
        for step in ("deprecate", "deprecate", "publish", "publish")
    ]

    assert statuses == ["deprecated", "deprecated", "published", "published"]


def test_what_a_round_uses_cannot_be_deleted(
    server: EmbeddedServer, operator: httpx.Client, org: str
) -> None:
    held = server.register_model(org_id=org, name="faces", state={"w": np.zeros(2)})
    round_id = server.create_round(org_id=org, model="faces")["round_id"]
    address = f"/models/{held['model_id']}"

    during = [operator.delete(f"{address}/versions/1"), operator.delete(address)]
    server.cancel_round(round_id)
    afterwards = [operator.delete(f"{address}/versions/1"), operator.delete(address)]

    assert [answer.status_code for answer in during] == [409, 409]
    assert "active round" in during[0].json()["detail"]
    assert [answer.status_code for answer in afterwards] == [204, 204]


class TestOnBothDatabases:
    @pytest.fixture
    def model_id(self, database: Database) -> str:
        with database.unit_of_work() as work:
            return ensure_model(work, "org-a", "digits", now=NOW).id

    def publish(self, database: Database, model_id: str, version: str) -> HeldVersion:
        with database.unit_of_work() as work:
            return publish_version(
                work, "org-a", model_id, version=version, file=BLOB, layout=LAYOUT, now=NOW
            )

    def test_a_published_version_can_be_trained(self, database: Database, model_id: str) -> None:
        held = self.publish(database, model_id, "1")

        assert trainable_layout(held) == LAYOUT
        assert held.checksum == BLOB.digest
        with database.snapshot() as session:
            assert latest_version(session, "org-a", model_id) == held

    def test_versions_published_at_once_are_all_there_and_one_is_the_latest(
        self, database: Database, model_id: str
    ) -> None:
        threads = [
            threading.Thread(target=self.publish, args=(database, model_id, f"v{i}")) for i in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        with database.snapshot() as session:
            latest = latest_version(session, "org-a", model_id)
        assert latest.version in {f"v{i}" for i in range(6)}
        assert self.publish(database, model_id, "last").version == "last"

    def test_of_two_who_publish_one_name_one_is_refused(self, database: Database, model_id: str) -> None:
        self.publish(database, model_id, "1")

        with pytest.raises(ContradictionError, match=r"versions never change; name .*--version NAME"):
            self.publish(database, model_id, "1")

    def test_what_is_kept_in_another_format_cannot_be_trained(
        self, database: Database, model_id: str
    ) -> None:
        new = NewVersion(version="1", format="onnx", checksum=BLOB.digest, size_bytes=3)
        with database.unit_of_work() as work:
            held = add_version(work, "org-a", model_id, new, files={"onnx": BLOB}, now=NOW)

        with pytest.raises(ContradictionError, match="kept as onnx and cannot be trained"):
            trainable_layout(held)

    def test_whoever_still_needs_a_version_is_asked(self, database: Database, model_id: str) -> None:
        self.publish(database, model_id, "1")
        asked: list[tuple[str, str, str | None]] = []

        def is_used(_session: object, org_id: str, model: str, version: str | None) -> bool:
            asked.append((org_id, model, version))
            return False

        with database.unit_of_work() as work:
            delete_version(work, "org-a", model_id, "latest", uses=[is_used])

        assert asked == [("org-a", model_id, "1")]


class TestRegisterModel:
    def test_takes_a_state_a_file_or_its_path(self, server: EmbeddedServer, org: str, tmp_path: Path) -> None:
        state = {"w": np.ones((2, 2), np.float32)}
        file = tmp_path / "model.safetensors"
        file.write_bytes(encode_model(state))

        held = [
            server.register_model(org_id=org, name="digits", state=given, version=str(number))
            for number, given in enumerate([state, encode_model(state), file])
        ]

        assert len({version["checksum"] for version in held}) == 1
        assert {version["status"] for version in held} == {"published"}

    @pytest.mark.parametrize(
        "state", [{}, {"w": "text"}, {"w": np.array(["text"])}, b"", b"garbage", b"\x80\x02."]
    )
    def test_refuses_what_is_no_model(self, server: EmbeddedServer, org: str, state: object) -> None:
        with pytest.raises(InvalidContentError):
            server.register_model(org_id=org, name="digits", state=state)  # type: ignore[arg-type]  # the mistake

    def test_says_how_to_get_the_state_of_a_module(self, server: EmbeddedServer, org: str) -> None:
        module = nn.Linear(2, 1)

        with pytest.raises(InvalidContentError, match=r"needed, not a Linear\s+pass module\.state_dict\(\)"):
            server.register_model(org_id=org, name="digits", state=module)  # type: ignore[arg-type]  # the mistake
