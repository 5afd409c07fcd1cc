"""From a delta to the file that leaves the device, and to what stays behind for the next round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from edgeml_client.filters import FilterStep, filter_vector
from edgeml_client.filters.coded_ending import CodedEnding, split_coded_ending
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import State
from edgeml_client.updates.coding import encode_coded_
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.update_file import encode_update, open_update
from edgeml_client.updates.vector import DeltaVector

__all__ = ["MadeUpdate", "make_update"]

AuditTrail = tuple[dict[str, JsonValue], ...]


@dataclass(frozen=True, slots=True)
class MadeUpdate:
    """An update that is ready to be stored.

    Attributes:
        data: The update file.
        left_out: With error feedback, what the file lacks; it is stored together with the file.
    """

    data: bytes
    left_out: DeltaVector | None = None


def make_update(
    delta: State | DeltaVector,
    steps: Sequence[FilterStep],
    *,
    header_for: Callable[[AuditTrail], UpdateHeader],
    layout: Layout,
    residuals: ResidualStore,
    allow_coded: bool,
) -> MadeUpdate:
    """Return the update file of a delta, coded if that is possible and allowed.

    With error feedback the numbers are the same either way: for a control plane that reads no coded updates,
    the coded one is decoded again on this device.

    Args:
        delta: The floating arrays that are not private; arrays are not changed, a vector is overwritten.
        steps: All filters, in order.
        header_for: Makes the envelope of an audit trail.
        layout: The arrays of the global model.
        residuals: Where this device keeps what its updates leave out.
        allow_coded: Whether the control plane reads coded updates.

    Raises:
        FilterConfigError: ``error_feedback`` stands where it cannot work.
        NonFiniteError: An array holds NaN or Inf.
        NormExceededError: ``norm_validation`` refused the update.
        RoundStateError: This device already made its update for this round.
    """
    before, ending = split_coded_ending(steps)
    if ending is None or not (allow_coded or ending.has_error_feedback):
        vector, trail = filter_vector(delta, steps)
        header = header_for(tuple(entry.for_upload() for entry in trail))
        return MadeUpdate(encode_update(header, vector.views()))
    vector, trail = filter_vector(delta, before)
    header = header_for((*(entry.for_upload() for entry in trail), *_audit(ending)))
    if ending.has_error_feedback:
        residuals.add_to_(vector, model_id=header.model_id, round_id=header.round_id)
    data = encode_coded_(header, vector, coding=ending.coding, fraction=ending.fraction)
    if not allow_coded:
        data = encode_update(header, dict(open_update(data, layout).arrays()))
    return MadeUpdate(data, vector if ending.has_error_feedback else None)


def _audit(ending: CodedEnding) -> AuditTrail:
    return tuple({"type": step.type, "parameters": step.parameters} for step in ending.steps)
