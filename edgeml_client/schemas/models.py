"""Models and their versions on the wire."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from edgeml_client.schemas._record import Record

__all__ = ["DownloadUrl", "Model", "ModelFiles", "ModelPage", "ModelVersion", "ModelVersionPage"]


class Model(Record):
    """A named model of an organization."""

    id: str
    name: str
    description: str | None = None
    framework: str | None = None
    use_case: str | None = None
    org_id: str | None = None
    created_at: datetime | None = None


class ModelPage(Record):
    """``GET /models``."""

    models: tuple[Model, ...] = ()
    total: int | None = None


class ModelVersion(Record):
    """One immutable version of a model.

    Attributes:
        checksum: SHA-256 of the stored file as ``sha256:<hex>``.
    """

    version: str
    model_id: str | None = None
    status: str | None = None
    format: str | None = None
    checksum: str | None = None
    size_bytes: int | None = None
    description: str | None = None
    metrics: dict[str, JsonValue] | None = None
    created_at: datetime | None = None


class ModelVersionPage(Record):
    """``GET /models/{id}/versions``."""

    versions: tuple[ModelVersion, ...] = ()
    total: int | None = None


class DownloadUrl(Record):
    """``GET /models/{id}/versions/{v}/download-url``: an address that a plain GET answers."""

    url: str


class ModelFiles(Record):
    """What a download put on disk.

    Attributes:
        model_path: The model.
        format: Its format.
        mnn_config: How to run it on the device it was asked for, if the control plane knows.
        config_path: The same, as a JSON file.
    """

    model_path: str
    format: str
    mnn_config: dict[str, JsonValue] | None = None
    config_path: str | None = None
