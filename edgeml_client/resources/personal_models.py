"""Keeping a device's personal model on the control plane, for those who want it there."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal, cast

from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.paths import endpoint
from edgeml_client.errors import ConfigurationError, InvalidResponseError
from edgeml_client.resources.capabilities import Capabilities
from edgeml_client.resources.model_downloads import MAX_MODEL_BYTES
from edgeml_client.rounds.local_training import finite_metrics
from edgeml_client.schemas import Capability, PersonalModel, PersonalUpload, Record
from edgeml_client.updates.arrays import ArrayKind, State
from edgeml_client.updates.model_file import GlobalModel, encode_model
from edgeml_client.updates.torch_format import dumps_state_dict, loads_state_dict

__all__ = ["PersonalModels", "personal_state"]


class PersonalModels:
    """The calls about a device's personal model."""

    def __init__(self, transport: HttpTransport, *, capabilities: Capabilities) -> None:
        self._transport = transport
        self._capabilities = capabilities

    def get(self, device_id: str) -> PersonalModel:
        """Return what the control plane keeps for a device."""
        params = {"format": "safetensors"} if Capability.MODELS_SAFETENSORS in self._capabilities else None
        return self._transport.call(
            "GET", endpoint("/training/personalized/{}", device_id), PersonalModel, params=params
        )

    def put(self, device_id: str, weights: object, metrics: Mapping[str, Any] | None) -> Record:
        """Store a personal state dict, or one that is encoded already, for a device.

        Raises:
            ConfigurationError: ``weights`` is neither.
        """
        is_new = Capability.MODELS_SAFETENSORS in self._capabilities
        written: Literal["safetensors"] | None = None
        if isinstance(weights, bytes):
            data = weights
        elif isinstance(weights, Mapping):
            data = _encode(cast("State", weights), is_new=is_new)
            written = "safetensors" if is_new else None
        else:
            raise ConfigurationError(f"weights must be a state dict or bytes, not {type(weights).__name__}")
        body = PersonalUpload(
            weights_data=base64.b64encode(data).decode(), metrics=finite_metrics(metrics), format=written
        )
        return self._transport.call(
            "POST", endpoint("/training/personalized/{}", device_id), Record, body=body
        )


def personal_state(model: PersonalModel, *, arrays: ArrayKind = "auto") -> dict[str, Any]:
    """Return the arrays of a personal model that :meth:`FederatedClient.get_personalized_model` returned.

    Raises:
        InvalidResponseError: The control plane keeps none, or what came cannot be read.
        MissingExtraError: It is in the torch-saved form, and torch is not installed.
    """
    if model.weights_data is None:
        raise InvalidResponseError("the control plane keeps no personal model for this device")
    try:
        data = base64.b64decode(model.weights_data, validate=True)
        if model.format == "safetensors":
            return GlobalModel(data).state(arrays)
        return GlobalModel(encode_model(loads_state_dict(data, max_bytes=MAX_MODEL_BYTES))).state(arrays)
    except (binascii.Error, ValueError) as exc:
        if isinstance(exc, ConfigurationError):
            raise
        raise InvalidResponseError(f"the personal model cannot be read: {exc}") from exc


def _encode(state: State, *, is_new: bool) -> bytes:
    return encode_model(state) if is_new else dumps_state_dict(state)
