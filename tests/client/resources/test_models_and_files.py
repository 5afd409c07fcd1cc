from __future__ import annotations

import hashlib
import json
import random
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import numpy as np
import pytest

from edgeml_client import EdgeML, GlobalModel, ModelRegistry
from edgeml_client.errors import ConflictError, NotFoundError
from edgeml_client.testing import Exchange, Reply, ScriptedServer

CONTENT = random.Random(1).randbytes(100_000)
VERSION = Reply.of_json({"version": "1", "model_id": "m"})
ABSENT = Reply.of_json({"detail": "no such thing"}, status=404)


def page(*names: str) -> Reply:
    return Reply.of_json({"models": [{"id": f"id-{name}", "name": name} for name in names]})


def form(exchange: Exchange) -> dict[str, Message]:
    """Return the parts of a form by their names, read by the standard library."""
    head = f"Content-Type: {exchange.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + exchange.body).get_payload()
    assert isinstance(parts, list)
    return {str(part.get_param("name", header="content-disposition")): part for part in parts}  # type: ignore[union-attr,misc]


def test_a_model_is_found_by_its_name(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("GET", "/models", page("digits", "letters"))

    assert edge.registry.resolve_model_id("letters") == "id-letters"
    assert edge.registry.resolve_model_id("id-digits") == "id-digits"


def test_a_model_is_found_on_a_later_page(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("GET", "/models", page(*(f"m{n}" for n in range(100))), page("digits"))

    assert edge.registry.resolve_model_id("digits") == "id-digits"
    assert [it.query["offset"] for it in server.requests("GET", "/models")] == ["0", "100"]


def test_ensuring_a_model_creates_it_once(server: ScriptedServer, edge: EdgeML) -> None:
    created = Reply.of_json({"id": "id-digits", "name": "digits"})
    server.on("GET", "/models", page(), page("digits"))
    server.on("POST", "/models", created)

    first = edge.registry.ensure_model(
        "digits", "pytorch", "demo", model_contract={"in": 1}, data_contract={"x": 2}
    )
    second = edge.registry.ensure_model("digits", "pytorch", "demo")

    (exchange,) = server.requests("POST", "/models")
    assert first.id == second.id == "id-digits"
    assert exchange.json == {
        "name": "digits",
        "description": "",
        "framework": "pytorch",
        "use_case": "demo",
        "org_id": "clinic-a",
        "model_contract": {"in": 1},
        "data_contract": {"x": 2},
    }


def test_a_model_that_somebody_else_creates_meanwhile_is_used(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("POST", "/models", Reply.of_json({"detail": "the name is taken"}, status=409))
    server.on("GET", "/models", page(), page("digits"))

    assert edge.registry.ensure_model("digits", "pytorch", "demo").id == "id-digits"


def test_a_conflict_about_something_else_is_shown(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("POST", "/models", Reply.of_json({"detail": "too many models"}, status=409))
    server.on("GET", "/models", page())

    with pytest.raises(ConflictError, match="too many models"):
        edge.registry.ensure_model("digits", "pytorch", "demo")


def test_the_latest_version_is_a_name(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("GET", "/models/m/versions/latest", VERSION)

    assert edge.registry.get_latest_version("m") == "1"


def test_a_state_dict_becomes_a_version(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("POST", "/models/m/versions/upload", VERSION)
    state = {"w": np.ones((2, 3), np.float32), "steps": np.array(7)}

    edge.registry.upload_version("m", state, "1", description="first")

    (exchange,) = server.requests("POST", "/models/m/versions/upload")
    parts = form(exchange)
    sent = parts["file"].get_payload(decode=True)
    assert isinstance(sent, bytes)
    assert parts["version"].get_payload() == "1"
    assert parts["description"].get_payload() == "first"
    assert parts["formats"].get_payload() == "safetensors"
    assert GlobalModel(sent).numpy_arrays()["w"].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_a_safetensors_file_in_memory_becomes_a_version(server: ScriptedServer, edge: EdgeML) -> None:
    server.on("POST", "/models/m/versions/upload", VERSION)

    edge.registry.upload_version("m", CONTENT, "1")

    (exchange,) = server.requests("POST", "/models/m/versions/upload")
    assert form(exchange)["file"].get_payload(decode=True) == CONTENT


def test_files_become_a_version(server: ScriptedServer, edge: EdgeML, tmp_path: Path) -> None:
    model, weights = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    model.write_bytes(CONTENT)
    weights.write_bytes(CONTENT[::-1])
    server.on("POST", "/models/m/versions/upload", Reply(drop=True), VERSION)

    edge.registry.upload_version_from_path(
        "m", str(model), "1", formats="onnx,tflite", onnx_data_path=weights, architecture="mlp", input_dim=16
    )

    dropped, taken = server.requests("POST", "/models/m/versions/upload")
    parts = form(taken)
    assert dropped.body == taken.body
    assert parts["file"].get_payload(decode=True) == CONTENT
    assert parts["file"].get_filename() == "model.onnx"
    assert parts["onnx_data"].get_payload(decode=True) == CONTENT[::-1]
    assert (parts["architecture"].get_payload(), parts["input_dim"].get_payload()) == ("mlp", "16")
    assert "hidden_dim" not in parts


def test_a_file_that_is_not_there_is_named(edge: EdgeML, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.onnx"):
        edge.registry.upload_version_from_path("m", tmp_path / "absent.onnx", "1")


@pytest.mark.parametrize("kind", ["safetensors", "pytorch"])
def test_what_the_control_plane_keeps_is_fetched_with_the_token(
    server: ScriptedServer, edge: EdgeML, tmp_path: Path, kind: str
) -> None:
    etag = f'"sha256:{hashlib.sha256(CONTENT).hexdigest()}"'
    server.on("GET", "/models/m/versions/1/download", Reply(body=CONTENT, headers={"ETag": etag}))

    files = edge.registry.download("m", "1", tmp_path / "new", format=kind)

    (exchange,) = server.requests("GET", "/models/m/versions/1/download")
    assert Path(files["model_path"]).read_bytes() == CONTENT
    assert files.model_path.endswith(f"model.{kind}")
    assert exchange.query == {"format": kind}


def test_other_formats_are_fetched_from_their_address_without_the_token(
    server: ScriptedServer, edge: EdgeML, tmp_path: Path
) -> None:
    with ScriptedServer() as storage:
        storage.on("GET", "/signed", Reply(body=CONTENT))
        server.on(
            "GET",
            "/models/m/versions/1/download-url",
            Reply.of_json({"url": f"{storage.api_base}/signed?signature=s"}),
        )

        path = edge.registry.download_version("m", "1", "tflite", tmp_path / "model.tflite")

        (exchange,) = storage.requests("GET", "/signed")
        assert Path(path).read_bytes() == CONTENT
        assert "authorization" not in exchange.headers


def serve_formats(server: ScriptedServer, *formats: str) -> None:
    """Offer only these formats."""

    def link(exchange: Exchange) -> Reply:
        wanted = exchange.query["format"]
        return Reply.of_json({"url": f"{server.api_base}/{wanted}"}) if wanted in formats else ABSENT

    server.on("GET", "/models/m/versions/1/download-url", link)
    for name in formats:
        server.on("GET", f"/{name}", Reply(body=name.encode()))


@pytest.mark.parametrize(
    ("device", "offered", "expected"),
    [
        ("iphone_15_pro", ("coreml", "tflite", "onnx"), "coreml"),
        ("pixel_8", ("coreml", "tflite", "onnx"), "tflite"),
        ("pixel_8", ("onnx",), "onnx"),
    ],
)
def test_a_device_gets_the_format_that_suits_it(  # noqa: PLR0917 - fixtures and parameters
    server: ScriptedServer, edge: EdgeML, tmp_path: Path, device: str, offered: tuple[str, ...], expected: str
) -> None:
    serve_formats(server, *offered)
    server.on("GET", f"/models/m/optimized-config/{device}", Reply.of_json({"threads": 4}))

    files = edge.registry.download_optimized("m", "1", device, tmp_path)

    assert files.format == expected
    assert Path(files.model_path).read_text() == expected
    assert files.mnn_config == {"threads": 4}
    assert json.loads(Path(str(files.config_path)).read_text()) == {"threads": 4}


def test_the_environment_may_name_the_device(
    server: ScriptedServer, edge: EdgeML, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_formats(server, "tflite", "onnx")
    server.on("GET", "/models/m/optimized-config/pixel_8", ABSENT)
    monkeypatch.setenv("EDGEML_DEVICE_TYPE", "pixel_8")

    for_device = edge.registry.download("m", "1", tmp_path)
    explicit = edge.registry.download("m", "1", tmp_path, format="onnx")

    assert (for_device.format, for_device.mnn_config) == ("tflite", None)
    assert explicit.format == "onnx"


def test_without_any_wish_the_format_is_onnx(server: ScriptedServer, edge: EdgeML, tmp_path: Path) -> None:
    serve_formats(server, "onnx")

    assert edge.registry.download("m", "1", tmp_path).format == "onnx"


def test_an_unknown_version_leaves_no_file(server: ScriptedServer, edge: EdgeML, tmp_path: Path) -> None:
    server.on("GET", "/models/m/versions/1/download-url", ABSENT)

    with pytest.raises(NotFoundError, match="no such thing"):
        edge.registry.download("m", "1", tmp_path, device_type="pixel_8")

    assert list(tmp_path.rglob("model*")) == []


def test_a_registry_of_its_own_opens_its_own_connections(server: ScriptedServer) -> None:
    server.on("GET", "/models", page())

    with ModelRegistry(lambda: "t", api_base=server.api_base) as registry:
        assert registry.list_models().models == ()

    assert server.requests("GET", "/models")[0].query["org_id"] == "default"
