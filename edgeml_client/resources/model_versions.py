"""The versions of models, and their files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from edgeml_client._transport.files import download_to_file
from edgeml_client._transport.http import HttpTransport, QueryValue
from edgeml_client._transport.paths import endpoint
from edgeml_client.errors import NotFoundError
from edgeml_client.resources.model_uploads import upload_files, upload_state
from edgeml_client.schemas import DownloadUrl, ModelFiles, ModelVersion, ModelVersionPage, Record

__all__ = ["PAGE", "ModelVersions"]

PAGE: Final = 100
DEVICE_TYPE_VARIABLE: Final = "EDGEML_DEVICE_TYPE"
COREML_DEVICES: Final = frozenset({"iphone_14", "iphone_15_pro"})
FORMATS_BEHIND_A_TOKEN: Final = frozenset({"pytorch", "safetensors"})
"""Formats that the control plane hands out itself, to whoever holds a token."""


class ModelVersions:
    """The versions of models: what :class:`ModelRegistry` offers beyond the models themselves.

    Args:
        api: Sends the requests.
    """

    def __init__(self, api: HttpTransport) -> None:
        self.api = api

    def list_versions(
        self, model_id: str, status_filter: str | None = None, limit: int = PAGE, offset: int = 0
    ) -> ModelVersionPage:
        """Return versions of a model, perhaps only those in one status.

        Args:
            model_id: The model.
            status_filter: The status.
            limit: At most so many.
            offset: After so many others.
        """
        params: dict[str, QueryValue] = {"limit": limit, "offset": offset, "status": status_filter or None}
        return self.api.call(
            "GET", endpoint("/models/{}/versions", model_id), ModelVersionPage, params=params
        )

    def get_version(self, model_id: str, version: str) -> ModelVersion:
        """Return one version."""
        return self.api.call("GET", endpoint("/models/{}/versions/{}", model_id, version), ModelVersion)

    def get_latest_version_info(self, model_id: str) -> ModelVersion:
        """Return the latest published version."""
        return self.api.call("GET", endpoint("/models/{}/versions/latest", model_id), ModelVersion)

    def get_latest_version(self, model_id: str) -> str:
        """Return the name of the latest published version."""
        return self.get_latest_version_info(model_id).version

    def create_version(  # noqa: PLR0917 - a published signature
        self,
        model_id: str,
        version: str,
        storage_path: str,
        fmt: str,
        checksum: str,
        size_bytes: int,
        description: str | None = None,
        metrics: Mapping[str, JsonValue] | None = None,
    ) -> ModelVersion:
        """Make a version of a file that the control plane's storage holds already.

        Args:
            model_id: The model.
            version: The name of the version.
            storage_path: Where the file is.
            fmt: Its format.
            checksum: Its SHA-256, as ``sha256:<hex>``.
            size_bytes: Its length.
            description: For people.
            metrics: For people.
        """
        body: dict[str, JsonValue] = {
            "version": version,
            "storage_path": storage_path,
            "format": fmt,
            "checksum": checksum,
            "size_bytes": size_bytes,
        }
        if description is not None:
            body["description"] = description
        if metrics is not None:
            body["metrics"] = dict(metrics)
        return self.api.call("POST", endpoint("/models/{}/versions", model_id), ModelVersion, body=body)

    def upload_version(
        self,
        model_id: str,
        state: Mapping[str, Any] | bytes,
        version: str,
        description: str | None = None,
    ) -> ModelVersion:
        """Make a version of a state dict, or of the content of a safetensors file.

        Args:
            model_id: The model.
            state: NumPy arrays or torch tensors by name, or the bytes of a safetensors file.
            version: The name of the version.
            description: For people.
        """
        return upload_state(self.api, model_id, state, version=version, description=description)

    def upload_version_from_path(  # noqa: PLR0917 - a published signature
        self,
        model_id: str,
        file_path: str | Path,
        version: str,
        description: str | None = None,
        formats: str | None = None,
        onnx_data_path: str | Path | None = None,
        architecture: str | None = None,
        input_dim: int | None = None,
        hidden_dim: int | None = None,
        output_dim: int | None = None,
    ) -> ModelVersion:
        """Make a version of a file, which is streamed and never read whole.

        Args:
            model_id: The model.
            file_path: The file.
            version: The name of the version.
            description: For people.
            formats: Formats the control plane shall convert to, comma-joined.
            onnx_data_path: The file with the weights of an ONNX model, if they are apart.
            architecture: The architecture, for servers that must build the model.
            input_dim: Its input width, likewise.
            hidden_dim: Its hidden width, likewise.
            output_dim: Its output width, likewise.

        Raises:
            OSError: A file is not there, or cannot be read.
        """
        fields: dict[str, str | int | None] = {
            "version": version,
            "description": description,
            "formats": formats,
            "architecture": architecture,
            "input_dim": input_dim,
            "hidden_dim": hidden_dim,
            "output_dim": output_dim,
        }
        return upload_files(self.api, model_id, fields, file=file_path, onnx_data=onnx_data_path)

    def publish_version(self, model_id: str, version: str) -> ModelVersion:
        """Make a version the one that devices get."""
        path = endpoint("/models/{}/versions/{}/publish", model_id, version)
        return self.api.call("POST", path, ModelVersion, body={})

    def deprecate_version(self, model_id: str, version: str) -> ModelVersion:
        """Tell devices to move on from a version."""
        path = endpoint("/models/{}/versions/{}/deprecate", model_id, version)
        return self.api.call("POST", path, ModelVersion, body={})

    def update_version_metrics(
        self, model_id: str, version: str, metrics: Mapping[str, JsonValue]
    ) -> ModelVersion:
        """Replace the metrics that are kept with a version."""
        path = endpoint("/models/{}/versions/{}/metrics", model_id, version)
        return self.api.call("PATCH", path, ModelVersion, body={"metrics": dict(metrics)})

    def delete_version(self, model_id: str, version: str) -> Record:
        """Remove a version."""
        return self.api.call("DELETE", endpoint("/models/{}/versions/{}", model_id, version), Record)

    def get_download_url(self, model_id: str, version: str, fmt: str = "onnx") -> DownloadUrl:
        """Return an address that a plain GET answers with the version in one format."""
        path = endpoint("/models/{}/versions/{}/download-url", model_id, version)
        return self.api.call("GET", path, DownloadUrl, params={"format": fmt})

    def download(
        self,
        model_id: str,
        version: str,
        destination: str | Path,
        *,
        format: str | None = None,  # noqa: A002 - a published signature
        device_type: str | None = None,
    ) -> ModelFiles:
        """Put a version into a folder, as ``model.<format>``.

        Files appear whole or not at all, resume after a dropped connection, and are checked against the
        digest that the control plane announces.

        Args:
            model_id: The model.
            version: The version.
            destination: The folder; made if it is not there.
            format: ``safetensors``, ``pytorch``, ``onnx``, ``coreml``, ``tflite`` ...
            device_type: Instead of a format: the device that shall run the model. The format is then the best
                for it, or ONNX if there is none, and the folder also gets ``mnn_config.json`` if the control
                plane has a configuration for the device. Without either, ``EDGEML_DEVICE_TYPE`` names the
                device, and ``onnx`` is the format if it is not set.

        Raises:
            OSError: A file cannot be written.
        """
        device = device_type or (os.environ.get(DEVICE_TYPE_VARIABLE) if format is None else None)
        if device is None or format is not None:
            wanted = format or "onnx"
            model = self.download_version(model_id, version, wanted, Path(destination) / f"model.{wanted}")
            return ModelFiles(model_path=model, format=wanted)
        return self._download_for(device, model_id, version, Path(destination))

    def download_version(self, model_id: str, version: str, fmt: str, destination: str | Path) -> str:
        """Put a version into a file, and return the file's path; see :meth:`download`."""
        if fmt in FORMATS_BEHIND_A_TOKEN:
            path = endpoint("/models/{}/versions/{}/download", model_id, version)
            download_to_file(self.api, path, Path(destination), params={"format": fmt})
        else:
            url = self.get_download_url(model_id, version, fmt=fmt).url
            download_to_file(self.api, url, Path(destination))
        return str(destination)

    def download_optimized(
        self, model_id: str, version: str, device_type: str, destination: str | Path
    ) -> ModelFiles:
        """Put the version that suits a device into a folder; see :meth:`download`."""
        return self.download(model_id, version, destination, device_type=device_type)

    def get_device_config(self, model_id: str, device_type: str) -> Record:
        """Return how a kind of device runs the model best."""
        return self.api.call("GET", endpoint("/models/{}/optimized-config/{}", model_id, device_type), Record)

    def _download_for(self, device: str, model_id: str, version: str, folder: Path) -> ModelFiles:
        wanted = "coreml" if device in COREML_DEVICES else "tflite"
        try:
            model = self.download_version(model_id, version, wanted, folder / f"model.{wanted}")
        except NotFoundError:
            wanted = "onnx"
            model = self.download_version(model_id, version, wanted, folder / "model.onnx")
        try:
            config = self.get_device_config(model_id, device).model_dump(mode="json")
        except NotFoundError:
            return ModelFiles(model_path=model, format=wanted)
        config_path = folder / "mnn_config.json"
        config_path.write_text(json.dumps(config, indent=2), encoding="utf-8")
        return ModelFiles(model_path=model, format=wanted, mnn_config=config, config_path=str(config_path))
