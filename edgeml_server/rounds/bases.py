"""The versions rounds start from, as the registry holds them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from edgeml_client.updates.layout import Layout
from edgeml_server.errors import AbsentError
from edgeml_server.registry.models import WHERE_MODELS_ARE_LISTED, find_model
from edgeml_server.registry.versions import get_version, latest_version, trainable_layout

__all__ = ["BaseVersion", "find_base"]


@dataclass(frozen=True, slots=True)
class BaseVersion:
    """A global version that can be trained, with the digest of its safetensors file and its arrays."""

    model_id: str
    version: str
    digest: str
    layout: Layout


def find_base(session: Session, org_id: str, model: str, version: str | None = None) -> BaseVersion:
    """Return a version to train from, by default the latest.

    Args:
        session: Where to read.
        org_id: The organization.
        model: The model's id or name.
        version: The version's name.

    Raises:
        AbsentError: There is no such model, or no such version of it.
        ContradictionError: The version is kept in a format that cannot be trained.
    """
    found = find_model(session, org_id, model)
    if found is None:
        raise AbsentError(f"there is no model {model[:80]!r}; {WHERE_MODELS_ARE_LISTED}")
    if version is None:
        held = latest_version(session, org_id, found.id)
    else:
        held = get_version(session, org_id, found.id, version)
    return BaseVersion(found.id, held.version, held.checksum, trainable_layout(held))
