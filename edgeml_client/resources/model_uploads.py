"""Uploads of model versions, as forms that are streamed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeml_client._transport.bodies import BytesBody, FileBody
from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.multipart import FormFile, MultipartBody
from edgeml_client._transport.paths import endpoint
from edgeml_client.schemas import ModelVersion
from edgeml_client.updates.model_file import encode_model

__all__ = ["upload_files", "upload_state"]


def upload_state(
    api: HttpTransport,
    model_id: str,
    state: Mapping[str, Any] | bytes,
    *,
    version: str,
    description: str | None,
) -> ModelVersion:
    """Upload a state dict, or the bytes of a safetensors file, as a version."""
    data = state if isinstance(state, bytes) else encode_model(state)
    fields: dict[str, str | int | None] = {
        "version": version,
        "description": description or None,
        "formats": "safetensors",
    }
    return _upload(api, model_id, fields, {"file": FormFile("model.safetensors", BytesBody(data))})


def upload_files(
    api: HttpTransport,
    model_id: str,
    fields: Mapping[str, str | int | None],
    *,
    file: str | Path,
    onnx_data: str | Path | None,
) -> ModelVersion:
    """Upload one file, and perhaps the weights that belong to it, as a version.

    Raises:
        OSError: A file is not there, or cannot be read.
    """
    paths = {"file": Path(file)} | ({} if onnx_data is None else {"onnx_data": Path(onnx_data)})
    files = {name: FormFile(path.name, FileBody(path)) for name, path in paths.items()}
    return _upload(api, model_id, fields, files)


def _upload(
    api: HttpTransport,
    model_id: str,
    fields: Mapping[str, str | int | None],
    files: Mapping[str, FormFile],
) -> ModelVersion:
    given = {name: str(value) for name, value in fields.items() if value is not None}
    path = endpoint("/models/{}/versions/upload", model_id)
    return api.call("POST", path, ModelVersion, body=MultipartBody(given, files))
