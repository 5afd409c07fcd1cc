"""Every statement about models and versions."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.exc import IntegrityError

from edgeml_client.schemas import Model
from edgeml_client.updates import Layout
from edgeml_server.blobs import StoredBlob
from edgeml_server.db import compare_and_set, new_id
from edgeml_server.registry.records import HeldVersion, NewVersion
from edgeml_server.registry.rules import VersionStatus
from edgeml_server.registry.tables import ModelRow, VersionFileRow, VersionRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from edgeml_server.registry.records import ModelOrder

__all__ = ["ModelRepository", "VersionRepository"]

_FRESH = {"populate_existing": True}


class ModelRepository:
    """The statements about the models of one organization."""

    def __init__(self, session: Session, org_id: str) -> None:
        self._session = session
        self._org_id = org_id

    def add(self, order: ModelOrder, *, now: datetime) -> Model | None:
        """Hold a new model and return it; ``None`` if the name is taken."""
        row = ModelRow(
            id=new_id("mdl"),
            org_id=self._org_id,
            name=order.name,
            description=order.description,
            framework=order.framework,
            use_case=order.use_case,
            model_contract=order.model_contract,
            data_contract=order.data_contract,
            extra=dict(order.model_extra or {}),
            created_at=now,
            updated_at=now,
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return None
        return _model(row)

    def find(self, model_id: str) -> Model | None:
        """Return the model of that id."""
        return self._one(ModelRow.id == model_id)

    def find_by_name(self, name: str) -> Model | None:
        """Return the model of that name."""
        return self._one(ModelRow.name == name)

    def change(self, model_id: str, values: Mapping[str, Any], *, now: datetime) -> bool:
        """Set columns of a model; ``False`` if the new name is taken."""
        statement = (
            update(ModelRow)
            .where(ModelRow.org_id == self._org_id, ModelRow.id == model_id)
            .values(updated_at=now, **values)
            .execution_options(synchronize_session=False)
        )
        try:
            with self._session.begin_nested():
                self._session.execute(statement)
        except IntegrityError:
            return False
        return True

    def remove(self, model_id: str) -> None:
        """Forget a model and its versions."""
        self._session.execute(
            delete(ModelRow).where(ModelRow.org_id == self._org_id, ModelRow.id == model_id)
        )

    def page(
        self, *, framework: str | None, use_case: str | None, name: str | None, limit: int, offset: int
    ) -> tuple[tuple[Model, ...], int]:
        """Return a page of the models, by name, and how many match in all."""
        wanted = {ModelRow.framework: framework, ModelRow.use_case: use_case, ModelRow.name: name}
        where = [ModelRow.org_id == self._org_id]
        where += [column == value for column, value in wanted.items() if value is not None]
        total = self._session.scalar(select(func.count()).select_from(ModelRow).where(*where)) or 0
        rows = self._session.scalars(
            select(ModelRow).where(*where).order_by(ModelRow.name).limit(limit).offset(offset)
        )
        return tuple(_model(row) for row in rows), total

    def _one(self, condition: ColumnElement[bool]) -> Model | None:
        row = self._session.scalar(
            select(ModelRow).where(ModelRow.org_id == self._org_id, condition).execution_options(**_FRESH)
        )
        return None if row is None else _model(row)


class VersionRepository:
    """The statements about the versions of one model of one organization."""

    def __init__(self, session: Session, org_id: str, model_id: str) -> None:
        self._session = session
        self._org_id = org_id
        self._model_id = model_id

    def add(self, new: NewVersion, *, now: datetime) -> str | None:
        """Hold a new draft and return its row's id; ``None`` if the model has a version of that name."""
        row = VersionRow(
            id=new_id("ver"),
            org_id=self._org_id,
            model_id=self._model_id,
            version=new.version,
            status=VersionStatus.DRAFT.value,
            format=new.format,
            checksum=new.checksum,
            size_bytes=new.size_bytes,
            storage_path=new.storage_path,
            description=new.description,
            metrics=dict(new.metrics),
            attributes=dict(new.attributes),
            layout=None if new.layout is None else new.layout.to_json(),
            created_at=now,
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:
            return None
        return row.id

    def find(self, version: str) -> HeldVersion | None:
        """Return the version of that name."""
        row = self._session.scalar(
            select(VersionRow).where(*self._mine(), VersionRow.version == version).execution_options(**_FRESH)
        )
        return None if row is None else _held(row)

    def find_latest(self) -> HeldVersion | None:
        """Return the version published last, of those that are still published."""
        row = self._session.scalar(
            select(VersionRow)
            .where(*self._mine(), VersionRow.status == VersionStatus.PUBLISHED.value)
            .order_by(VersionRow.publish_number.desc())
            .limit(1)
            .execution_options(**_FRESH)
        )
        return None if row is None else _held(row)

    def page(self, *, status: str | None, limit: int, offset: int) -> tuple[tuple[HeldVersion, ...], int]:
        """Return a page of the versions, oldest first, and how many match in all."""
        where = [*self._mine(), *([] if status is None else [VersionRow.status == status])]
        total = self._session.scalar(select(func.count()).select_from(VersionRow).where(*where)) or 0
        rows = self._session.scalars(
            select(VersionRow)
            .where(*where)
            .order_by(VersionRow.created_at, VersionRow.id)
            .limit(limit)
            .offset(offset)
        )
        return tuple(_held(row) for row in rows), total

    def set_status(self, version: str, *, current: VersionStatus, wanted: VersionStatus) -> bool:
        """Change the status if it still is ``current``; a publication becomes the model's latest.

        Returns:
            ``False`` if somebody else changed the version, or published another, at the same time.
        """
        values: dict[str, Any] = {"status": wanted.value}
        if wanted is VersionStatus.PUBLISHED:
            others = select(func.coalesce(func.max(VersionRow.publish_number), 0) + 1)
            values["publish_number"] = others.where(*self._mine()).scalar_subquery()
        try:
            with self._session.begin_nested():
                return compare_and_set(
                    self._session,
                    VersionRow,
                    *self._mine(),
                    VersionRow.version == version,
                    VersionRow.status == current.value,
                    values=values,
                )
        except IntegrityError:
            return False

    def set_metrics(self, version: str, metrics: Mapping[str, Any]) -> None:
        """Replace the metrics of a version."""
        self._session.execute(
            update(VersionRow)
            .where(*self._mine(), VersionRow.version == version)
            .values(metrics=dict(metrics))
            .execution_options(synchronize_session=False)
        )

    def remove(self, version: str) -> None:
        """Forget a version."""
        self._session.execute(delete(VersionRow).where(*self._mine(), VersionRow.version == version))

    def add_file(self, version_id: str, *, file_format: str, blob: StoredBlob) -> None:
        """Hold a file of a version; does nothing if it has one of that format."""
        row = VersionFileRow(
            version_id=version_id,
            format=file_format,
            org_id=self._org_id,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
        )
        try:
            with self._session.begin_nested():
                self._session.add(row)
        except IntegrityError:  # derived by somebody else at the same time: as good
            return

    def files(self, version_id: str) -> dict[str, StoredBlob]:
        """Return the files of a version by format."""
        rows = self._session.execute(
            select(VersionFileRow.format, VersionFileRow.digest, VersionFileRow.size_bytes)
            .where(VersionFileRow.org_id == self._org_id, VersionFileRow.version_id == version_id)
            .order_by(VersionFileRow.format)
        )
        return {row.format: StoredBlob(row.digest, row.size_bytes) for row in rows}

    def _mine(self) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
        return VersionRow.org_id == self._org_id, VersionRow.model_id == self._model_id


def _model(row: ModelRow) -> Model:
    return Model.model_validate(
        row.extra
        | {
            "id": row.id,
            "name": row.name,
            "description": row.description,
            "framework": row.framework,
            "use_case": row.use_case,
            "org_id": row.org_id,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "model_contract": row.model_contract,
            "data_contract": row.data_contract,
        }
    )


def _held(row: VersionRow) -> HeldVersion:
    return HeldVersion(
        id=row.id,
        org_id=row.org_id,
        model_id=row.model_id,
        status=VersionStatus(row.status),
        created_at=row.created_at,
        content=NewVersion(
            version=row.version,
            format=row.format,
            checksum=row.checksum,
            size_bytes=row.size_bytes,
            storage_path=row.storage_path,
            description=row.description,
            metrics=dict(row.metrics),
            attributes=dict(row.attributes),
            layout=None if row.layout is None else Layout.from_json(row.layout),
        ),
    )
