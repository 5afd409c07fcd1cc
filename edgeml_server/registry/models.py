"""What can be done with models."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydantic import JsonValue, ValidationError

from edgeml_client.schemas import Model
from edgeml_server.auth.rules import check_org
from edgeml_server.errors import AbsentError, ContradictionError, InvalidContentError
from edgeml_server.registry.records import ModelOrder
from edgeml_server.registry.repository import ModelRepository

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.orm import Session

    from edgeml_server.db import UnitOfWork
    from edgeml_server.registry.records import VersionUse

__all__ = [
    "WHERE_MODELS_ARE_LISTED",
    "change_model",
    "create_model",
    "delete_model",
    "ensure_model",
    "find_model",
    "get_model",
]

_COLUMNS: Final = (
    "name",
    "description",
    "framework",
    "use_case",
    "model_contract",
    "data_contract",
)
WHERE_MODELS_ARE_LISTED: Final = "`edgeml-server model list` and GET /models list those there are"

_FIXED: Final = frozenset({"id", "org_id", "created_at", "updated_at"})


def get_model(session: Session, org_id: str, model_id: str) -> Model:
    """Return the model of that id.

    Raises:
        AbsentError: The organization has none.
    """
    model = ModelRepository(session, org_id).find(model_id)
    if model is None:
        raise AbsentError(f"there is no model {model_id!r}; {WHERE_MODELS_ARE_LISTED}")
    return model


def find_model(session: Session, org_id: str, model: str) -> Model | None:
    """Return the model of that name, or else of that id."""
    models = ModelRepository(session, org_id)
    return models.find_by_name(model) or models.find(model)


def create_model(work: UnitOfWork, org_id: str, order: ModelOrder, *, now: datetime) -> Model:
    """Create a model.

    Raises:
        AbsentError: The order names another organization.
        ContradictionError: The name is taken.
    """
    check_org(org_id, order.org_id)
    model = ModelRepository(work.session, org_id).add(order, now=now)
    if model is None:
        raise ContradictionError(f"there is a model named {order.name!r} already; choose another name")
    return model


def ensure_model(work: UnitOfWork, org_id: str, name: str, *, now: datetime) -> Model:
    """Return the model of that name, made if there is none."""
    models = ModelRepository(work.session, org_id)
    found = models.find_by_name(name) or models.add(ModelOrder(name=name), now=now)
    return found or create_model(work, org_id, ModelOrder(name=name), now=now)


def change_model(
    work: UnitOfWork, org_id: str, model_id: str, changes: Mapping[str, JsonValue], *, now: datetime
) -> Model:
    """Set fields of a model; fields the control plane does not know are kept and answered as they are.

    Raises:
        AbsentError: The organization has no such model.
        ContradictionError: The new name is taken.
        InvalidContentError: A field cannot be changed, or its value cannot be.
    """
    model = get_model(work.session, org_id, model_id)
    fixed = sorted(_FIXED & changes.keys())
    if fixed:
        raise InvalidContentError(f"{', '.join(fixed)} of a model cannot be changed; leave it out")
    held = {key: value for key, value in model.model_dump().items() if key not in _FIXED}
    try:
        order = ModelOrder.model_validate(held | dict(changes))
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'the body'}: {found['msg']}" for found in exc.errors()
        )
        raise InvalidContentError(f"the model cannot become that: {problems}") from exc
    values = {name: getattr(order, name) for name in _COLUMNS} | {"extra": dict(order.model_extra or {})}
    if not ModelRepository(work.session, org_id).change(model_id, values, now=now):
        raise ContradictionError(f"there is a model named {order.name!r} already; choose another name")
    return get_model(work.session, org_id, model_id)


def delete_model(work: UnitOfWork, org_id: str, model_id: str, *, uses: Sequence[VersionUse]) -> None:
    """Forget a model and all its versions.

    Raises:
        AbsentError: The organization has no such model.
        ContradictionError: It is in use.
    """
    get_model(work.session, org_id, model_id)
    if any(is_used(work.session, org_id, model_id, None) for is_used in uses):
        raise ContradictionError("the model is used by an active round; wait for its end, or cancel it")
    ModelRepository(work.session, org_id).remove(model_id)
