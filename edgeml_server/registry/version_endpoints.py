"""Versions on the wire."""

from __future__ import annotations

import asyncio
import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, JsonValue

from edgeml_client.schemas import ModelVersion, ModelVersionPage
from edgeml_server._http.dependencies import Caller, ModelOperator, Plane
from edgeml_server._http.idempotency import IdempotentCall, RepeatableCall, once
from edgeml_server._http.multipart import ReceivedForm, receive_form
from edgeml_server.db import UnitOfWork
from edgeml_server.errors import InvalidContentError
from edgeml_server.plane import ControlPlane
from edgeml_server.registry.dependencies import VersionUses
from edgeml_server.registry.files import describe_contents, understand_upload
from edgeml_server.registry.models import get_model
from edgeml_server.registry.records import NewVersion, VersionOrder
from edgeml_server.registry.repository import VersionRepository
from edgeml_server.registry.rules import VersionStatus, check_version_name
from edgeml_server.registry.versions import (
    add_version,
    delete_version,
    get_version,
    merge_metrics,
    set_status,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeml_server.blobs import StoredBlob

__all__ = ["MetricsChange", "router"]

router = APIRouter(prefix="/models/{model_id}/versions", tags=["versions"])

_COMPANION: Final = "onnx_data"
_NUMBERS: Final = ("input_dim", "hidden_dim", "output_dim")
_TEXTS: Final = ("architecture", "formats")


class MetricsChange(BaseModel):
    """``PATCH .../metrics``."""

    metrics: dict[str, JsonValue]


@router.get("")
def list_versions(  # noqa: PLR0917 - FastAPI passes them by name
    model_id: str,
    plane: Plane,
    caller: Caller,
    status: VersionStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> ModelVersionPage:
    """List the versions of a model, oldest first."""
    with plane.database.snapshot() as session:
        get_model(session, caller.org_id, model_id)
        held, total = VersionRepository(session, caller.org_id, model_id).page(
            status=status, limit=limit, offset=offset
        )
    return ModelVersionPage(versions=tuple(version.on_the_wire() for version in held), total=total)


@router.post("", status_code=201)
def register_version(
    model_id: str, body: VersionOrder, plane: Plane, operator: ModelOperator, call: IdempotentCall
) -> ModelVersion:
    """Register a version whose file is kept elsewhere; it cannot be downloaded here, nor trained."""
    new = NewVersion(
        version=body.version,
        format=body.format,
        checksum=body.checksum,
        size_bytes=body.size_bytes,
        storage_path=body.storage_path,
        description=body.description or "",
        metrics=dict(body.metrics or {}),
    )
    return _create(plane, operator.org_id, model_id, new, files={}, call=call)


@router.post("/upload", status_code=201)
async def upload_version(
    model_id: str,
    request: Request,
    plane: Plane,
    operator: ModelOperator,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> ModelVersion:
    """Take in a version's file; a model to train is sent as safetensors or as a torch-saved state dict."""
    await asyncio.to_thread(_require_model, plane, operator.org_id, model_id)
    form = await receive_form(request, plane.blobs)
    call = RepeatableCall(idempotency_key, request.url.path, _form_digest(form))
    return await asyncio.to_thread(_take_in, plane, operator.org_id, model_id, form, call)


@router.get("/{version}")
def read(model_id: str, version: str, plane: Plane, caller: Caller) -> ModelVersion:
    """Return a version; ``latest`` is the one published last."""
    with plane.database.snapshot() as session:
        return get_version(session, caller.org_id, model_id, version).on_the_wire()


@router.delete("/{version}", status_code=204)
def delete(model_id: str, version: str, plane: Plane, operator: ModelOperator, uses: VersionUses) -> Response:
    """Forget a version."""
    with plane.database.unit_of_work() as work:
        delete_version(work, operator.org_id, model_id, version, uses=uses)
    return Response(status_code=204)


@router.post("/{version}/publish")
def publish(model_id: str, version: str, plane: Plane, operator: ModelOperator) -> ModelVersion:
    """Make a version the model's latest."""
    with plane.database.unit_of_work() as work:
        held = set_status(work, operator.org_id, model_id, version, VersionStatus.PUBLISHED)
    return held.on_the_wire()


@router.post("/{version}/deprecate")
def deprecate(model_id: str, version: str, plane: Plane, operator: ModelOperator) -> ModelVersion:
    """Stop offering a version."""
    with plane.database.unit_of_work() as work:
        held = set_status(work, operator.org_id, model_id, version, VersionStatus.DEPRECATED)
    return held.on_the_wire()


@router.patch("/{version}/metrics")
def change_metrics(
    model_id: str, version: str, body: MetricsChange, plane: Plane, operator: ModelOperator
) -> ModelVersion:
    """Set some metrics of a version."""
    with plane.database.unit_of_work() as work:
        held = merge_metrics(work, operator.org_id, model_id, version, body.metrics)
    return held.on_the_wire()


def _require_model(plane: ControlPlane, org_id: str, model_id: str) -> None:
    # Before the file is received: it would be for nothing.
    with plane.database.snapshot() as session:
        get_model(session, org_id, model_id)


def _take_in(
    plane: ControlPlane, org_id: str, model_id: str, form: ReceivedForm, call: RepeatableCall
) -> ModelVersion:
    file = form.files.get("file")
    if file is None or "version" not in form.fields:
        raise InvalidContentError("the form needs the part 'file' with a file name, and the field 'version'")
    version = check_version_name(form.fields["version"])
    contents = understand_upload(plane, file.blob, file_name=file.file_name)
    new = describe_contents(
        contents,
        version=version,
        description=form.fields.get("description", ""),
        attributes=_attributes(form.fields),
    )
    files = {contents.format: contents.file}
    if _COMPANION in form.files:
        files[_COMPANION] = form.files[_COMPANION].blob
    return _create(plane, org_id, model_id, new, files=files, call=call)


def _create(
    plane: ControlPlane,
    org_id: str,
    model_id: str,
    new: NewVersion,
    *,
    files: Mapping[str, StoredBlob],
    call: RepeatableCall,
) -> ModelVersion:
    now = plane.clock.now()

    def add(work: UnitOfWork) -> ModelVersion:
        return add_version(work, org_id, model_id, new, files=files, now=now).on_the_wire()

    with plane.database.unit_of_work() as work:
        return once(work, org_id, call, ModelVersion, partial(add, work), now=now)


def _attributes(fields: Mapping[str, str]) -> dict[str, Any]:
    attributes: dict[str, Any] = {name: fields[name] for name in _TEXTS if name in fields}
    for name in (name for name in _NUMBERS if name in fields):
        try:
            attributes[name] = int(fields[name])
        except ValueError as exc:
            raise InvalidContentError(f"{name} must be a whole number, not {fields[name]!r}") from exc
    return attributes


def _form_digest(form: ReceivedForm) -> str:
    digests = {name: file.blob.digest for name, file in form.files.items()}
    text = json.dumps([dict(form.fields), digests], sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
