"""An upload becomes a model to train, or a file to keep, or a refusal that says why."""

from __future__ import annotations

import io
import pickle  # noqa: TID251 - to send one, as an attacker would
import sys
import zipfile
from collections.abc import Callable

import httpx
import numpy as np
import pytest
import torch

from edgeml_client.updates import GlobalModel, digest_of, encode_model

Upload = Callable[..., httpx.Response]


def saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def test_a_safetensors_file_is_kept_as_it_is(
    upload: Upload, model_file: bytes, operator: httpx.Client, model: str
) -> None:
    answer = upload(model_file, "model.safetensors", description="first", architecture="mlp", input_dim="64")

    assert answer.status_code == 201
    version = answer.json()
    assert version["checksum"] == digest_of(model_file)
    assert version["size_bytes"] == len(model_file)
    assert (version["format"], version["status"], version["trainable"]) == ("safetensors", "draft", True)
    assert (version["description"], version["architecture"], version["input_dim"]) == ("first", "mlp", 64)
    kept = operator.get(f"{model}/versions/1/download", params={"format": "safetensors"})
    assert kept.content == model_file


@pytest.mark.parametrize("file_name", ["model.pt", "model.pth", "model.bin", "model"])
def test_a_torch_saved_state_dict_becomes_a_safetensors_file(
    upload: Upload, torch_file: bytes, model_file: bytes, file_name: str
) -> None:
    answer = upload(torch_file, file_name)

    assert answer.status_code == 201
    assert answer.json()["checksum"] == digest_of(model_file)


def test_the_true_dtypes_survive(upload: Upload, operator: httpx.Client, model: str) -> None:
    state = {
        "a": torch.ones(3, dtype=torch.bfloat16),
        "b": torch.tensor([True]),
        "c": torch.ones(2, dtype=torch.half),
    }
    upload(saved(state), "model.pt")

    kept = operator.get(f"{model}/versions/1/download", params={"format": "safetensors"}).content

    assert [(spec.name, spec.dtype) for spec in GlobalModel(kept).layout] == [
        ("a", "BF16"),
        ("b", "BOOL"),
        ("c", "F16"),
    ]


def test_another_format_is_kept_and_handed_out_with_its_companion(operator: httpx.Client, model: str) -> None:
    answer = operator.post(
        f"{model}/versions/upload",
        data={"version": "1", "formats": "coreml"},
        files={"file": ("m.onnx", b"graph"), "onnx_data": ("m.data", b"numbers")},
    )

    assert answer.status_code == 201
    assert (answer.json()["format"], answer.json()["trainable"]) == ("onnx", False)
    for file_format, content in (("onnx", b"graph"), ("onnx_data", b"numbers")):
        found = operator.get(f"{model}/versions/1/download", params={"format": file_format})
        assert found.content == content


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (sys.exit, (7,))


@pytest.mark.parametrize(
    ("content", "file_name", "found"),
    [
        pytest.param(b"", "m.safetensors", "not a good safetensors model", id="empty"),
        pytest.param(b"garbage", "m.safetensors", "not a good safetensors model", id="garbage"),
        pytest.param(
            b"\xff" * 8 + b"{", "m", "not a good safetensors model", id="header longer than the file"
        ),
        pytest.param(
            encode_model({"w": np.zeros(9)})[:-1], "m", "not a good safetensors model", id="truncated"
        ),
        pytest.param(encode_model({}), "m.safetensors", "no arrays", id="no arrays"),
        pytest.param(pickle.dumps(Malicious()), "m.pt", "not a torch-saved state dict", id="pickle"),
        pytest.param(pickle.dumps({"w": [1.0]}), "m", "not a torch-saved state dict", id="harmless pickle"),
        pytest.param(saved(Malicious()), "m.pt", "not a state dict", id="torch-saved code"),
        pytest.param(saved(torch.nn.Linear(2, 2)), "m.pt", "not a state dict", id="a whole module"),
        pytest.param(saved([torch.ones(2)]), "m.pt", "not a state dict", id="a list of tensors"),
        pytest.param(saved({"epoch": 3}), "m.pt", "not a flat state dict", id="a checkpoint"),
        pytest.param(saved({"w": torch.ones(99)})[:-200], "m.pt", "not a torch-saved", id="truncated zip"),
    ],
)
def test_a_file_that_is_not_what_it_claims_is_refused_without_being_run(  # noqa: PLR0917 - pytest names them
    upload: Upload, operator: httpx.Client, model: str, content: bytes, file_name: str, found: str
) -> None:
    answer = upload(content, file_name)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_content")
    assert found in answer.json()["detail"]
    assert operator.get(f"{model}/versions").json()["total"] == 0


def test_a_zip_that_would_swell_is_refused_before_it_does(upload: Upload) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", b"\0" * 50_000_000)

    answer = upload(stream.getvalue(), "m.pt")

    assert answer.status_code == 422
    assert "uncompressed" in answer.json()["detail"]


def test_without_torch_the_torch_saved_form_is_415_with_a_sentence(
    upload: Upload, torch_file: bytes, model_file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)

    refused, accepted = upload(torch_file, "m.pt"), upload(model_file, "m.safetensors")

    assert (refused.status_code, refused.json()["code"]) == (415, "unsupported_format")
    assert "use safetensors, or install" in refused.json()["detail"]
    assert accepted.status_code == 201


def test_a_version_never_changes(
    upload: Upload, model_file: bytes, operator: httpx.Client, model: str
) -> None:
    upload(model_file, "m.safetensors")

    again = upload(b"other", "m.onnx")

    assert again.status_code == 409
    assert "versions never change" in again.json()["detail"]
    assert operator.get(f"{model}/versions/1").json()["checksum"] == digest_of(model_file)


@pytest.mark.parametrize("version", ["latest", "a/b", "", "x" * 65])
def test_a_name_that_cannot_be_a_versions_is_refused(upload: Upload, model_file: bytes, version: str) -> None:
    answer = upload(model_file, "m.safetensors", version=version)

    assert answer.status_code == 422
    assert "cannot name a version" in answer.json()["detail"]


def test_a_dimension_that_is_no_number_is_named(upload: Upload, model_file: bytes) -> None:
    answer = upload(model_file, "m.safetensors", input_dim="many")

    assert answer.status_code == 422
    assert "input_dim must be a whole number" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("data", "files"),
    [
        ({}, {"file": ("m.onnx", b"x")}),
        ({"version": "1"}, {"other": ("m.onnx", b"x")}),
        ({"version": "1"}, {"file": (None, b"x")}),
    ],
)
def test_a_form_without_what_is_needed_says_what(
    operator: httpx.Client, model: str, data: dict[str, str], files: dict[str, tuple[str | None, bytes]]
) -> None:
    answer = operator.post(f"{model}/versions/upload", data=data, files=files)

    assert answer.status_code == 422
    assert "the part 'file'" in answer.json()["detail"]


def test_devices_upload_nothing(enrol: Callable[..., httpx.Client], model: str) -> None:
    answer = enrol().post(f"{model}/versions/upload", data={"version": "1"}, files={"file": ("m", b"x")})

    assert answer.status_code == 403


def form(content: bytes, boundary: bytes = b"b") -> httpx.Request:
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
    return httpx.Request("POST", "http://x", content=content, headers=headers)


PART = b'--b\r\nContent-Disposition: form-data; name="version"\r\n\r\n1\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("content", "status"),
    [
        pytest.param(PART + FILE + b"--b--\r\n", 201, id="whole"),
        pytest.param(PART + FILE, 400, id="no last boundary"),
        pytest.param(PART + FILE[:-4], 400, id="cut in a file"),
        pytest.param(b"garbage", 400, id="garbage"),
        pytest.param(b"", 400, id="empty"),
        pytest.param(
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", 422, id="part without name"
        ),
        pytest.param(PART * 65 + b"--b--\r\n", 422, id="too many parts"),
        pytest.param(PART.replace(b"1", b"1" * 70_000) + b"--b--\r\n", 422, id="field too long"),
    ],
)
def test_forms_whole_and_broken(operator: httpx.Client, model: str, content: bytes, status: int) -> None:
    answer = operator.post(
        f"{model}/versions/upload",
        content=content,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )

    assert answer.status_code == status
    assert operator.get(f"{model}/versions").json()["total"] == (status == 201)


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", ""])
def test_a_body_of_another_type_is_415(operator: httpx.Client, model: str, kind: str) -> None:
    answer = operator.post(f"{model}/versions/upload", content=b"{}", headers={"Content-Type": kind})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")


def test_a_boundary_that_is_too_long_is_a_bad_request(operator: httpx.Client, model: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={'b' * 5_000}"}

    assert operator.post(f"{model}/versions/upload", content=b"x", headers=headers).status_code == 400
