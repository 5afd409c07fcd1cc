"""What an update from an untrusted device must pass before it counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeml_client.errors import InvalidUpdateError, ModelMismatchError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.update_file import open_update
from edgeml_server.errors import InvalidContentError, WrongBaseError
from edgeml_server.rounds.acceptance import check_claims
from edgeml_server.rounds.records import RoundRecord

__all__ = ["CheckedUpdate", "check_update", "norm_of"]


@dataclass(frozen=True, slots=True)
class CheckedUpdate:
    """An update that could be aggregated.

    Attributes:
        norm: Its L2 norm over all arrays.
    """

    header: UpdateHeader
    norm: float


def check_update(
    source: Path | bytes, layout: Layout, record: RoundRecord, *, device_id: str
) -> CheckedUpdate:
    """Return what an update file says about itself, once all of it was checked.

    Header, names, shapes and sizes are compared with the registered model before an array is read; one
    pass over the arrays then finds anything that is not finite, and measures the norm.

    Raises:
        InvalidContentError: The file is not an update of this model, round and device, or its figures
            cannot be used.
        WrongBaseError: It names another base version than the round's.
    """
    try:
        update = open_update(source, layout)
        header = update.header
        _check_addressee(header, record, device_id=device_id)
        _check_shares_a_number(header, layout)
        check_claims(sample_count=header.sample_count, metrics=header.metrics)
        return CheckedUpdate(header, update.check_finite())
    except (InvalidUpdateError, ModelMismatchError) as exc:
        raise InvalidContentError(str(exc)) from exc


def _check_addressee(header: UpdateHeader, record: RoundRecord, *, device_id: str) -> None:
    expected = {"round_id": record.id, "model_id": record.model_id, "device_id": device_id}
    for name, value in expected.items():
        found = getattr(header, name)
        if found != value:
            raise InvalidContentError(
                f"the update's header says {name} {found[:80]!r}, but it was sent as {value!r}; "
                "send each update to its own round, from its own device"
            )
    if header.base_version != record.base_version:
        raise WrongBaseError(
            f"the update was computed against version {header.base_version[:64]!r}, but this round starts "
            f"from {record.base_version!r}; download that version and train again"
        )


def _check_shares_a_number(header: UpdateHeader, layout: Layout) -> None:
    if not layout.floating.without(frozenset(header.private)).size:
        raise InvalidContentError(
            "the update holds no number: every array is private or empty; share at least one that is not"
        )


def norm_of(file: bytes, layout: Layout) -> float:
    """Return the L2 norm of an update file that this control plane wrote itself."""
    return open_update(file, layout).check_finite()
