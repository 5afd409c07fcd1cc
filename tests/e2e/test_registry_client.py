"""The registry client against a real control plane."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeml_client import EdgeML, GlobalModel
from edgeml_client.errors import ConflictError, NotFoundError
from edgeml_client.updates.model_file import encode_model
from edgeml_server import EmbeddedServer

STATE = {"body.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(7)}


@pytest.fixture(scope="module")
def plane() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
def edge(plane: EmbeddedServer) -> Iterator[EdgeML]:
    token = plane.create_operator_token(org_id="clinic-a")
    with EdgeML(lambda: token, org_id="clinic-a", api_base=plane.api_base) as made:
        yield made


def test_a_version_goes_there_and_comes_back(edge: EdgeML, tmp_path: Path) -> None:
    model = edge.registry.ensure_model("there-and-back", "pytorch", "a test")
    file = tmp_path / "model.safetensors"
    file.write_bytes(encode_model(STATE))

    edge.registry.upload_version(model.id, STATE, "1")
    edge.registry.upload_version_from_path(model.id, file, "2", description="the same arrays")
    edge.registry.publish_version(model.id, "2")

    assert edge.registry.ensure_model("there-and-back", "pytorch", "a test").id == model.id
    assert edge.registry.resolve_model_id("there-and-back") == model.id
    assert edge.registry.get_latest_version(model.id) == "2"
    assert [it.version for it in edge.registry.list_versions(model.id).versions] == ["1", "2"]
    for version in ("1", "2"):
        files = edge.registry.download(model.id, version, tmp_path / version, format="safetensors")
        received = GlobalModel(Path(files.model_path).read_bytes()).numpy_arrays()
        assert received["body.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert received["steps"] == 7


def test_a_link_needs_no_token(edge: EdgeML, tmp_path: Path) -> None:
    model = edge.registry.ensure_model("linked", "pytorch", "a test")
    edge.registry.upload_version(model.id, STATE, "1")

    url = edge.registry.get_download_url(model.id, "1", "safetensors").url
    download = edge.api.download(url)

    assert download.data == encode_model(STATE)
    assert download.digest == edge.registry.get_version(model.id, "1").checksum


def test_a_version_is_immutable(edge: EdgeML) -> None:
    model = edge.registry.ensure_model("immutable", "pytorch", "a test")
    edge.registry.upload_version(model.id, STATE, "1")

    with pytest.raises(ConflictError):
        edge.registry.upload_version(model.id, {"other": np.zeros(1, np.float32)}, "1")


def test_what_is_not_there_is_not_found(edge: EdgeML, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no-such-model"):
        edge.registry.get_model("no-such-model")
    with pytest.raises(NotFoundError):
        edge.registry.download("no-such-model", "1", tmp_path, format="safetensors")

    assert list(tmp_path.iterdir()) == []


def test_metrics_and_fields_can_be_changed(edge: EdgeML) -> None:
    model = edge.registry.ensure_model("changing", "pytorch", "a test")
    edge.registry.upload_version(model.id, STATE, "1")

    changed = edge.registry.update_model(model.id, description="better")
    measured = edge.registry.update_version_metrics(model.id, "1", {"auc": 0.9})
    edge.registry.deprecate_version(model.id, "1")
    edge.registry.delete_version(model.id, "1")
    edge.registry.delete_model(model.id)

    assert changed.description == "better"
    assert measured["metrics"]["auc"] == 0.9
    with pytest.raises(NotFoundError):
        edge.registry.get_model(model.id)
