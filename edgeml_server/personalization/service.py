"""Keeping and handing back personal models; a device reaches its own only."""

from __future__ import annotations

import base64
import binascii

from edgeml_client.errors import InvalidModelError, MissingExtraError, ModelMismatchError
from edgeml_client.schemas import PersonalModel, PersonalUpload
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.model_file import GlobalModel, encode_model
from edgeml_client.updates.torch_format import dumps_state_dict, loads_state_dict
from edgeml_server.auth.principal import Principal
from edgeml_server.errors import AbsentError, InvalidContentError, UnsupportedFormatError
from edgeml_server.personalization.repository import HeldPersonalModel, PersonalModelRepository
from edgeml_server.plane import ControlPlane
from edgeml_server.rounds.acceptance import check_metrics

__all__ = ["hand_back", "keep"]

"""How a personal model may be written."""

_NO_TORCH = (
    "this control plane has no torch, which the torch-saved form needs: send and ask for "
    "format=safetensors, or install edgeml-lightning[lightning] on the server"
)


def keep(plane: ControlPlane, caller: Principal, device_id: str, upload: PersonalUpload) -> PersonalModel:
    """Keep a device's personal model, in place of the one before.

    Raises:
        AbsentError: It is not the caller's device.
        InvalidContentError: It is no state dict, or the metrics cannot be used.
        UnsupportedFormatError: It is torch-saved, and there is no torch here.
    """
    _require_own(caller, device_id)
    check_metrics(upload.metrics)
    try:
        sent = base64.b64decode(upload.weights_data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidContentError(f"weights_data is not base64: {exc}; was it cut short?") from exc
    is_safetensors = upload.format == "safetensors" or (upload.format is None and sent[8:9] == b"{")
    file = _checked(sent) if is_safetensors else _converted(sent, max_bytes=plane.settings.max_torch_bytes)
    held = HeldPersonalModel(device_id, plane.blobs.put([file]), dict(upload.metrics), plane.clock.now())
    with plane.database.unit_of_work() as work:
        PersonalModelRepository(work.session, caller.org_id).put(held)
    return _described(held)


def hand_back(plane: ControlPlane, caller: Principal, device_id: str, *, written: str) -> PersonalModel:
    """Return a device's personal model with its arrays.

    Args:
        plane: The control plane.
        caller: The device itself.
        device_id: Its id.
        written: ``safetensors`` or ``pytorch``.

    Raises:
        AbsentError: It is not the caller's device, or it keeps no personal model here.
        UnsupportedFormatError: The torch-saved form is asked for, and there is no torch here.
    """
    _require_own(caller, device_id)
    with plane.database.snapshot() as session:
        held = PersonalModelRepository(session, caller.org_id).find(device_id)
    if held is None:
        raise AbsentError("this device keeps no personal model here yet; upload one first")
    data = plane.blobs.path(held.file.digest).read_bytes()
    if written == "pytorch":
        try:
            data = dumps_state_dict(GlobalModel(data).torch_tensors())
        except MissingExtraError as exc:
            raise UnsupportedFormatError(_NO_TORCH) from exc
    return _described(held).model_copy(
        update={"weights_data": base64.b64encode(data).decode(), "format": written}
    )


def _require_own(caller: Principal, device_id: str) -> None:
    # Not even the organization's operators: a personal model tells a lot about the data behind it.
    if caller.device_id is None or caller.device_id != device_id:
        raise AbsentError(f"there is no personal model of device {device_id[:80]!r} for this token")


def _checked(file: bytes) -> bytes:
    try:
        Layout.from_safetensors_header(file)
    except InvalidModelError as exc:
        raise InvalidContentError(f"weights_data is not a good safetensors file: {exc}") from exc
    return file


def _converted(saved: bytes, *, max_bytes: int) -> bytes:
    try:
        return encode_model(loads_state_dict(saved, max_bytes=max_bytes))
    except MissingExtraError as exc:
        raise UnsupportedFormatError(_NO_TORCH) from exc
    except (InvalidModelError, ModelMismatchError) as exc:
        raise InvalidContentError(f"weights_data: {exc}") from exc


def _described(held: HeldPersonalModel) -> PersonalModel:
    return PersonalModel.model_validate(
        {
            "device_id": held.device_id,
            "format": "safetensors",
            "metrics": held.metrics,
            "updated_at": held.updated_at,
            "size_bytes": held.file.size_bytes,
            "status": "stored",
        }
    )
