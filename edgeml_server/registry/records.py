"""What callers send about models and versions, and what is held inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from edgeml_client.schemas import Identifier
from edgeml_client.schemas import ModelVersion as WireVersion

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from edgeml_client.updates import Layout
    from edgeml_server.registry.rules import VersionStatus

__all__ = ["HeldVersion", "ModelOrder", "NewVersion", "VersionOrder", "VersionUse"]

VersionUse: TypeAlias = "Callable[[Session, str, str, str | None], bool]"
"""Says whether a version is needed: ``(session, org_id, model_id, version)``; ``None`` means any of them."""


class ModelOrder(BaseModel):
    """``POST /models``; what is not named here is kept and answered as it is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Identifier
    org_id: str | None = None
    description: str = ""
    framework: Annotated[str, Field(max_length=255)] = ""
    use_case: Annotated[str, Field(max_length=255)] = ""
    model_contract: dict[str, JsonValue] | None = None
    data_contract: dict[str, JsonValue] | None = None


class VersionOrder(BaseModel):
    """``POST /models/{id}/versions``: a file that is kept elsewhere."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    storage_path: Annotated[str, Field(min_length=1, max_length=4096)]
    format: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
    checksum: Annotated[str, Field(max_length=255)]
    size_bytes: Annotated[int, Field(ge=0, lt=2**63)]
    description: str | None = None
    metrics: dict[str, JsonValue] | None = None


@dataclass(frozen=True)
class NewVersion:
    """A version to be.

    Attributes:
        checksum: Of the file in ``format``; ``sha256:<hex>`` for files held here.
        layout: The arrays, for what can be trained.
        attributes: What else the sender said; answered as it is.
    """

    version: str
    format: str
    checksum: str
    size_bytes: int
    storage_path: str | None = None
    description: str = ""
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    layout: Layout | None = None


@dataclass(frozen=True)
class HeldVersion:
    """A version as it is held.

    Attributes:
        checksum: For a trainable version the digest of its safetensors file, its name in the blob store.
    """

    id: str
    org_id: str
    model_id: str
    status: VersionStatus
    created_at: datetime
    content: NewVersion

    @property
    def version(self) -> str:
        """Its name."""
        return self.content.version

    @property
    def checksum(self) -> str:
        """The digest of its file."""
        return self.content.checksum

    @property
    def layout(self) -> Layout | None:
        """The arrays, for what can be trained."""
        return self.content.layout

    def on_the_wire(self) -> WireVersion:
        """Return what callers are told."""
        content = self.content
        return WireVersion.model_validate(
            content.attributes
            | {
                "id": self.id,
                "version": content.version,
                "model_id": self.model_id,
                "status": self.status.value,
                "format": content.format,
                "checksum": content.checksum,
                "size_bytes": content.size_bytes,
                "storage_path": content.storage_path,
                "description": content.description,
                "metrics": content.metrics,
                "created_at": self.created_at,
                "trainable": content.layout is not None,
            }
        )
