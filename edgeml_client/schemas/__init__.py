"""The wire contract as pydantic schemas; the control plane imports the very same ones."""

from edgeml_client.schemas._record import Record, WireBody
from edgeml_client.schemas.auth import (
    BootstrapRequest,
    Identifier,
    RefreshRequest,
    RevokeRequest,
    TokenResponse,
)
from edgeml_client.schemas.capabilities import Capability
from edgeml_client.schemas.devices import Device, DeviceRegistration
from edgeml_client.schemas.experiments import Experiment, ExperimentCreation, Variant, VariantSpec
from edgeml_client.schemas.federations import AggregationResult, FederationRecord, Invitation
from edgeml_client.schemas.models import (
    DownloadUrl,
    Model,
    ModelFiles,
    ModelPage,
    ModelVersion,
    ModelVersionPage,
)
from edgeml_client.schemas.personalization import PersonalModel, PersonalUpload
from edgeml_client.schemas.rollouts import Rollout, RolloutChange
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
    "AggregationResult",
    "BootstrapRequest",
    "Capability",
    "Device",
    "DeviceRegistration",
    "DownloadUrl",
    "Experiment",
    "ExperimentCreation",
    "FederationRecord",
    "Identifier",
    "Invitation",
    "Model",
    "ModelFiles",
    "ModelPage",
    "ModelVersion",
    "ModelVersionPage",
    "PersonalModel",
    "PersonalUpload",
    "Record",
    "RefreshRequest",
    "RevokeRequest",
    "Rollout",
    "RolloutChange",
    "RoundAssignment",
    "RoundConfig",
    "RoundPhase",
    "RoundStatus",
    "TokenResponse",
    "UpdateHeader",
    "UpdateReceipt",
    "Variant",
    "VariantSpec",
    "WeightsUpload",
    "WireBody",
]
