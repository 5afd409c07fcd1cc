"""The wire contract as pydantic schemas; the control plane imports the very same ones."""

from edgeml_client.schemas._record import Record, WireBody
from edgeml_client.schemas.auth import (
    BootstrapRequest,
    Identifier,
    RefreshRequest,
    RevokeRequest,
    TokenResponse,
)
from edgeml_client.schemas.devices import Device, DeviceRegistration
from edgeml_client.schemas.models import Model, ModelPage, ModelVersion, ModelVersionPage
from edgeml_client.schemas.personalization import PersonalModel, PersonalUpload
from edgeml_client.schemas.rounds import (
    DELTA_FORMAT,
    RoundAssignment,
    RoundConfig,
    RoundPhase,
    RoundStatus,
    UpdateHeader,
    UpdateReceipt,
    WeightsUpload,
)

__all__ = [
    "DELTA_FORMAT",
    "BootstrapRequest",
    "Device",
    "DeviceRegistration",
    "Identifier",
    "Model",
    "ModelPage",
    "ModelVersion",
    "ModelVersionPage",
    "PersonalModel",
    "PersonalUpload",
    "Record",
    "RefreshRequest",
    "RevokeRequest",
    "RoundAssignment",
    "RoundConfig",
    "RoundPhase",
    "RoundStatus",
    "TokenResponse",
    "UpdateHeader",
    "UpdateReceipt",
    "WeightsUpload",
    "WireBody",
]
