"""Legacy updates that belong to no round: kept until an operator asks for their average."""

from __future__ import annotations

from dataclasses import dataclass

from edgeml_client.schemas import ModelVersion
from edgeml_server.aggregation import DivergedError, average_updates, write_next_version
from edgeml_server.blobs import StoredBlob
from edgeml_server.db import new_id
from edgeml_server.errors import ContradictionError, InvalidContentError
from edgeml_server.plane import ControlPlane
from edgeml_server.registry.records import HeldVersion, NewVersion
from edgeml_server.registry.rules import check_version_name
from edgeml_server.registry.versions import add_version, publish_version
from edgeml_server.rounds.acceptance import Verdict
from edgeml_server.rounds.aggregating import contributions_of, free_version, mean_metrics
from edgeml_server.rounds.bases import BaseVersion, find_base
from edgeml_server.rounds.bodies import AggregateRequest
from edgeml_server.rounds.intake import Receipt, Sender
from edgeml_server.rounds.records import UpdateRecord
from edgeml_server.rounds.service import RoundWork
from edgeml_server.rounds.update_checks import CheckedUpdate
from edgeml_server.rounds.update_repository import UpdateRepository

__all__ = ["accept_loose", "aggregate_loose"]


def accept_loose(
    plane: ControlPlane,
    sender: Sender,
    update: CheckedUpdate,
    *,
    digest: str,
    blob: StoredBlob,
) -> Receipt:
    """Keep a checked legacy update; the very same one again, for the same base, is not kept twice."""
    header = update.header
    new = UpdateRecord(
        id=new_id("update"),
        round_id=None,
        device_id=sender.device_id,
        device_identifier=sender.device_identifier,
        model_id=header.model_id,
        base_version=header.base_version,
        digest=digest,
        blob_digest=blob.digest,
        size_bytes=blob.size_bytes,
        sample_count=header.sample_count,
        norm=update.norm,
        metrics=header.metrics,
        accepted_at=plane.clock.now(),
    )
    with plane.database.unit_of_work() as work:
        updates = UpdateRepository(work.session, sender.org_id)
        if updates.add(new):
            return Receipt(new.id, Verdict.ACCEPTED)
        held = updates.find_without_round(
            device_id=sender.device_id,
            model_id=header.model_id,
            base_version=header.base_version,
            digest=digest,
        )
    return Receipt(held.id if held else new.id, Verdict.DUPLICATE)


@dataclass(frozen=True, slots=True)
class _Plan:
    base: BaseVersion
    updates: tuple[UpdateRecord, ...]


def aggregate_loose(plane: ControlPlane, org_id: str, request: AggregateRequest) -> ModelVersion:
    """Make the next version of a model from the legacy updates that wait for it.

    Raises:
        AbsentError: There is no such model or base version.
        ContradictionError: There are too few updates, they went into another version meanwhile, or the
            new version exists already.
        InvalidContentError: The average is not finite, or the new version cannot be named so.
    """
    if request.new_version is not None:
        check_version_name(request.new_version)
    plan = _plan(plane, org_id, request)
    mean = average_updates(contributions_of(plan.updates, plane.blobs), plan.base.layout)
    writer = plane.blobs.writer()
    try:
        write_next_version(plane.blobs.path(plan.base.digest), mean, writer)
        blob = writer.commit()
    except DivergedError as exc:
        raise InvalidContentError(str(exc)) from exc
    finally:
        writer.discard()
    with plane.database.unit_of_work() as work:
        desk = RoundWork(work, org_id, plane.clock.now(), plane.announcements)
        held = _hold_version(desk, plan, request, blob)
    return _answer(held, plan)


def _plan(plane: ControlPlane, org_id: str, request: AggregateRequest) -> _Plan:
    with plane.database.snapshot() as session:
        base = find_base(session, org_id, request.model_id, request.base_version)
        updates = UpdateRepository(session, org_id).pending_without_round(
            model_id=base.model_id, base_version=base.version
        )
    if len(updates) < request.min_updates:
        raise ContradictionError(
            f"{len(updates)} updates wait for version {base.version!r}, but min_updates is "
            f"{request.min_updates}; wait for more devices, or ask for fewer"
        )
    return _Plan(base, updates)


def _hold_version(desk: RoundWork, plan: _Plan, request: AggregateRequest, blob: StoredBlob) -> HeldVersion:
    version = request.new_version or free_version(desk, plan.base)
    ids = tuple(held.id for held in plan.updates)
    if not UpdateRepository(desk.session, desk.org_id).mark_aggregated(ids, new_version=version):
        raise ContradictionError(
            "some of these updates went into another version at the same time; ask for the latest version"
        )
    description = f"{len(ids)} updates without a round, from {plan.base.version}"
    if not request.publish:
        return add_version(
            desk.work,
            desk.org_id,
            plan.base.model_id,
            NewVersion(
                version=version,
                format="safetensors",
                checksum=blob.digest,
                size_bytes=blob.size_bytes,
                description=description,
                metrics=mean_metrics(plan.updates),
                layout=plan.base.layout,
            ),
            files={"safetensors": blob},
            now=desk.now,
        )
    return publish_version(
        desk.work,
        desk.org_id,
        plan.base.model_id,
        version=version,
        file=blob,
        layout=plan.base.layout,
        now=desk.now,
        description=description,
        metrics=mean_metrics(plan.updates),
    )


def _answer(held: HeldVersion, plan: _Plan) -> ModelVersion:
    return ModelVersion.model_validate(
        {
            **held.on_the_wire().model_dump(),
            "new_version": held.version,
            "base_version": plan.base.version,
            "num_updates": len(plan.updates),
            "num_samples": sum(update.sample_count for update in plan.updates),
        }
    )
