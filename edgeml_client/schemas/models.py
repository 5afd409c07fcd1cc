"""Models and their versions on the wire (contract, sections 2 and 3)."""

from __future__ import annotations

from datetime import datetime

from pydantic import JsonValue

from edgeml_client.schemas._record import Record

__all__ = ["Model", "ModelPage", "ModelVersion", "ModelVersionPage"]


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
