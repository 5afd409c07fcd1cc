"""What can be done with versions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from edgeml_server.blobs import StoredBlob
from edgeml_server.errors import AbsentError, ContradictionError
from edgeml_server.registry.models import get_model
from edgeml_server.registry.records import HeldVersion, NewVersion
from edgeml_server.registry.repository import VersionRepository
from edgeml_server.registry.rules import VersionStatus, change_status, check_version_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue
    from sqlalchemy.orm import Session

    from edgeml_client.updates import Layout
    from edgeml_server.db import UnitOfWork
    from edgeml_server.registry.records import VersionUse

__all__ = [
    "add_version",
    "delete_version",
    "get_version",
    "latest_version",
    "merge_metrics",
    "publish_version",
    "set_status",
    "trainable_layout",
]

_MAX_RIVALS: Final = 8


def get_version(session: Session, org_id: str, model_id: str, version: str) -> HeldVersion:
    """Return a version by name; ``latest`` is the one published last.

    Raises:
        AbsentError: The organization has no such model, or the model no such version.
    """
    if version == "latest":
        return latest_version(session, org_id, model_id)
    get_model(session, org_id, model_id)
    held = VersionRepository(session, org_id, model_id).find(version)
    if held is None:
        raise AbsentError(f"model {model_id} has no version {version!r}; list its versions")
    return held


def latest_version(session: Session, org_id: str, model_id: str) -> HeldVersion:
    """Return the version published last, of those that are still published.

    Raises:
        AbsentError: The organization has no such model, or nothing of it is published.
    """
    get_model(session, org_id, model_id)
    held = VersionRepository(session, org_id, model_id).find_latest()
    if held is None:
        raise AbsentError(f"model {model_id} has no published version; upload one and publish it")
    return held


def trainable_layout(held: HeldVersion) -> Layout:
    """Return the arrays of a version that rounds can train.

    Raises:
        ContradictionError: It is kept in a format that cannot be trained.
    """
    if held.layout is None:
        raise ContradictionError(
            f"version {held.version!r} is kept as {held.content.format} and cannot be trained; "
            "upload it as safetensors, or as a torch-saved state dict"
        )
    return held.layout


def add_version(
    work: UnitOfWork,
    org_id: str,
    model_id: str,
    new: NewVersion,
    *,
    files: Mapping[str, StoredBlob],
    now: datetime,
) -> HeldVersion:
    """Hold a new version as a draft.

    Args:
        files: Its files by format, stored already.

    Raises:
        AbsentError: The organization has no such model.
        ContradictionError: The model has a version of that name; versions never change.
        InvalidContentError: The name cannot be one.
    """
    check_version_name(new.version)
    get_model(work.session, org_id, model_id)
    versions = VersionRepository(work.session, org_id, model_id)
    version_id = versions.add(new, now=now)
    if version_id is None:
        raise ContradictionError(
            f"there is a version {new.version!r} already, and versions never change; "
            "name the new one differently (`edgeml-server model upload --version NAME`)"
        )
    for file_format, blob in files.items():
        versions.add_file(version_id, file_format=file_format, blob=blob)
    return get_version(work.session, org_id, model_id, new.version)


def publish_version(
    work: UnitOfWork,
    org_id: str,
    model_id: str,
    *,
    version: str,
    file: StoredBlob,
    layout: Layout,
    now: datetime,
    description: str = "",
    metrics: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> HeldVersion:
    """Hold a trainable version and make it the model's latest, in one step.

    Args:
        file: Its safetensors file, stored already.
        attributes: What else shall be answered with the version.

    Raises:
        AbsentError: The organization has no such model.
        ContradictionError: The model has a version of that name.
        InvalidContentError: The name cannot be one.
    """
    new = NewVersion(
        version=version,
        format="safetensors",
        checksum=file.digest,
        size_bytes=file.size_bytes,
        description=description,
        metrics=dict(metrics or {}),
        attributes=dict(attributes or {}),
        layout=layout,
    )
    add_version(work, org_id, model_id, new, files={"safetensors": file}, now=now)
    return set_status(work, org_id, model_id, version, VersionStatus.PUBLISHED)


def set_status(
    work: UnitOfWork, org_id: str, model_id: str, version: str, wanted: VersionStatus
) -> HeldVersion:
    """Publish or deprecate a version; asking for what it is already changes nothing.

    Raises:
        AbsentError: There is no such version.
        ContradictionError: Its status does not allow it.
    """
    versions = VersionRepository(work.session, org_id, model_id)
    for _ in range(_MAX_RIVALS):
        held = get_version(work.session, org_id, model_id, version)
        if change_status(held.status, wanted) is held.status:
            return held
        if versions.set_status(held.version, current=held.status, wanted=wanted):
            return get_version(work.session, org_id, model_id, held.version)
    raise ContradictionError("others are publishing versions of this model at the same time; try again")


def merge_metrics(
    work: UnitOfWork, org_id: str, model_id: str, version: str, metrics: Mapping[str, JsonValue]
) -> HeldVersion:
    """Set some metrics of a version; the others stay.

    Raises:
        AbsentError: There is no such version.
    """
    held = get_version(work.session, org_id, model_id, version)
    versions = VersionRepository(work.session, org_id, model_id)
    versions.set_metrics(held.version, held.content.metrics | dict(metrics))
    return get_version(work.session, org_id, model_id, held.version)


def delete_version(
    work: UnitOfWork, org_id: str, model_id: str, version: str, *, uses: Sequence[VersionUse]
) -> None:
    """Forget a version.

    Raises:
        AbsentError: There is no such version.
        ContradictionError: It is in use.
    """
    held = get_version(work.session, org_id, model_id, version)
    if any(is_used(work.session, org_id, model_id, held.version) for is_used in uses):
        raise ContradictionError("the version is used by an active round; wait for its end, or cancel it")
    VersionRepository(work.session, org_id, model_id).remove(held.version)
