"""Taking in an update of the legacy form, with and without a round."""

from __future__ import annotations

import hashlib

from edgeml_client.schemas import UpdateHeader, WeightsUpload
from edgeml_server.errors import InvalidContentError, WrongBaseError
from edgeml_server.plane import ControlPlane
from edgeml_server.rounds.bases import find_base
from edgeml_server.rounds.intake import Receipt, Sender, accept, admit
from edgeml_server.rounds.legacy import decode_weights, max_torch_bytes, to_update_file
from edgeml_server.rounds.loose_updates import accept_loose
from edgeml_server.rounds.update_checks import CheckedUpdate, norm_of

__all__ = ["take_in_weights"]


def take_in_weights(plane: ControlPlane, sender: Sender, upload: WeightsUpload) -> Receipt:
    """Count a legacy update in its round, or keep it for ``POST /training/aggregate``.

    Raises:
        ControlPlaneError: As for an update file; see :mod:`edgeml_server.rounds.intake`.
    """
    if upload.round_id:
        return _to_round(plane, sender, upload, upload.round_id)
    return _loose(plane, sender, upload)


def _to_round(plane: ControlPlane, sender: Sender, upload: WeightsUpload, round_id: str) -> Receipt:
    admission = admit(plane, sender, round_id)
    record = admission.record
    if upload.model_id != record.model_id:
        raise InvalidContentError(
            f"model_id is {upload.model_id[:80]!r}, but this round trains {record.model_id!r}; "
            "take both from the assignment"
        )
    if upload.version != record.base_version:
        raise WrongBaseError(
            f"the update was computed against version {upload.version[:64]!r}, but this round starts from "
            f"{record.base_version!r}; download that version and train again"
        )
    saved = decode_weights(upload.weights_data, max_bytes=max_torch_bytes(admission.layout))
    header = _header(upload, sender, round_id, model_id=record.model_id, base_digest=record.base_digest)
    file = to_update_file(
        saved,
        upload.update_format,
        plane.blobs.path(record.base_digest),
        header,
        head_layers=record.series.config.head_layers or (),
    )
    checked = CheckedUpdate(header, norm_of(file, admission.layout))
    return accept(plane, sender, round_id, checked, digest=_digest(saved), blob=plane.blobs.put([file]))


def _loose(plane: ControlPlane, sender: Sender, upload: WeightsUpload) -> Receipt:
    with plane.database.snapshot() as session:
        base = find_base(session, sender.org_id, upload.model_id, upload.version)
    saved = decode_weights(upload.weights_data, max_bytes=max_torch_bytes(base.layout))
    header = _header(upload, sender, "", model_id=base.model_id, base_digest=base.digest)
    file = to_update_file(saved, upload.update_format, plane.blobs.path(base.digest), header)
    checked = CheckedUpdate(header, norm_of(file, base.layout))
    return accept_loose(plane, sender, checked, digest=_digest(saved), blob=plane.blobs.put([file]))


def _header(
    upload: WeightsUpload, sender: Sender, round_id: str, *, model_id: str, base_digest: str
) -> UpdateHeader:
    return UpdateHeader(
        round_id=round_id,
        model_id=model_id,
        base_version=upload.version,
        base_digest=base_digest,
        device_id=sender.device_id,
        sample_count=upload.sample_count,
        metrics=upload.metrics,
    )


def _digest(saved: bytes) -> str:
    return f"sha256:{hashlib.sha256(saved).hexdigest()}"
