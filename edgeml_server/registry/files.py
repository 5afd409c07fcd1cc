"""The files of versions: finding them, deriving the torch-saved form, bringing new ones in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgeml_client.errors import ModelMismatchError
from edgeml_client.updates import encode_model
from edgeml_server.errors import AbsentError, InvalidContentError
from edgeml_server.registry.contents import Contents, to_torch_saved, understand
from edgeml_server.registry.models import ensure_model
from edgeml_server.registry.records import HeldVersion, NewVersion
from edgeml_server.registry.repository import VersionRepository
from edgeml_server.registry.versions import get_version, publish_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeml_server.blobs import StoredBlob
    from edgeml_server.plane import ControlPlane

__all__ = ["VersionFile", "describe_contents", "file_of_version", "publish_state", "understand_upload"]

_PIECE_BYTES: Final = 1024**2


@dataclass(frozen=True)
class VersionFile:
    """One file of one version."""

    held: HeldVersion
    format: str
    blob: StoredBlob


def file_of_version(
    plane: ControlPlane, org_id: str, model_id: str, version: str, file_format: str | None
) -> VersionFile:
    """Return the version's file in a format, by default its own.

    The torch-saved form of a trainable version is derived when it is first asked for, and then kept.

    Raises:
        AbsentError: There is no such version, or it has no file in that format.
        UnsupportedFormatError: The torch-saved form is asked for, and there is no torch here.
    """
    with plane.database.snapshot() as session:
        held = get_version(session, org_id, model_id, version)
        files = VersionRepository(session, org_id, model_id).files(held.id)
    wanted = file_format or held.content.format
    blob = files.get(wanted)
    if blob is None and wanted == "pytorch" and held.layout is not None:
        blob = to_torch_saved(plane.blobs, held.checksum)
        with plane.database.unit_of_work() as work:
            get_version(work.session, org_id, model_id, held.version)
            versions = VersionRepository(work.session, org_id, model_id)
            versions.add_file(held.id, file_format=wanted, blob=blob)
    if blob is None:
        offered = sorted(files) or ["no file, only the storage_path it was registered with"]
        raise AbsentError(f"version {held.version!r} has no {wanted} file; it has {', '.join(offered)}")
    return VersionFile(held, wanted, blob)


def understand_upload(plane: ControlPlane, blob: StoredBlob, *, file_name: str) -> Contents:
    """Return what a stored upload is.

    Raises:
        InvalidContentError: It claims to be a model, and is none.
        UnsupportedFormatError: It is torch-saved, and there is no torch here.
    """
    limit = plane.settings.max_torch_bytes
    return understand(plane.blobs, blob, file_name=file_name, max_torch_bytes=limit)


def describe_contents(
    contents: Contents, *, version: str, description: str = "", attributes: Mapping[str, Any] | None = None
) -> NewVersion:
    """Return the version that a file makes."""
    return NewVersion(
        version=version,
        format=contents.format,
        checksum=contents.file.digest,
        size_bytes=contents.file.size_bytes,
        description=description,
        attributes=dict(attributes or {}),
        layout=contents.layout,
    )


def publish_state(
    plane: ControlPlane,
    org_id: str,
    name: str,
    state: Mapping[str, Any] | bytes | Path,
    *,
    version: str,
) -> HeldVersion:
    """Publish a version of the model of that name, which is made if there is none.

    Args:
        state: NumPy arrays or torch tensors by name, or a model file, or the path of one.

    Raises:
        ContradictionError: The model has a version of that name.
        InvalidContentError: The state is no model, or the version's name cannot be one.
        UnsupportedFormatError: The file is torch-saved, and there is no torch here.
    """
    contents = _stored_state(plane, state)
    if contents.layout is None:
        raise InvalidContentError("this is no model to train; give a state dict or a safetensors file")
    now = plane.clock.now()
    with plane.database.unit_of_work() as work:
        model = ensure_model(work, org_id, name, now=now)
        return publish_version(
            work,
            org_id,
            model.id,
            version=version,
            file=contents.file,
            layout=contents.layout,
            now=now,
        )


def _stored_state(plane: ControlPlane, state: Mapping[str, Any] | bytes | Path) -> Contents:
    if isinstance(state, Path):
        with state.open("rb") as file:
            blob = plane.blobs.put(iter(partial(file.read, _PIECE_BYTES), b""))
        return understand_upload(plane, blob, file_name=state.name)
    data = state if isinstance(state, bytes) else _encoded(state)
    return understand_upload(plane, plane.blobs.put([data]), file_name="")


def _encoded(state: Mapping[str, Any]) -> bytes:
    try:
        return encode_model(state)
    except ModelMismatchError as exc:
        raise InvalidContentError(str(exc)) from exc
