"""From a delta to the file that leaves the device, and to what stays behind for the next round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from edgeml_client.filters import FilterStep, run_filters_
from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import State
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
    generator: np.random.Generator | None = None,
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
        generator: The source of noise and of stochastic rounding; by default one seeded by the operating
            system.

    Raises:
        FilterConfigError: ``error_feedback`` stands where it cannot work.
        NonFiniteError: An array holds NaN or Inf.
        NormExceededError: ``norm_validation`` refused the update.
        RoundStateError: This device already made its update for this round.
    """
    vector = delta if isinstance(delta, DeltaVector) else DeltaVector.of(delta)
    before, ending = split_coded_ending(steps)
    if ending is None or not (allow_coded or ending.has_error_feedback):
        ran = [done.step for done in run_filters_(vector, steps, generator=generator)]
        return MadeUpdate(encode_update(header_for(_audit(ran)), vector.views()))
    ran = [done.step for done in run_filters_(vector, before, generator=generator)]
    header = header_for(_audit((*ran, *ending.steps)))
    if ending.has_error_feedback:
        residuals.add_to_(vector, model_id=header.model_id, round_id=header.round_id)
    data = ending.encode_(header, vector, generator=generator)
    if not allow_coded:
        data = encode_update(header, dict(open_update(data, layout).arrays()))
    return MadeUpdate(data, vector if ending.has_error_feedback else None)


def _audit(steps: Iterable[FilterStep]) -> AuditTrail:
    return tuple(step.for_upload() for step in steps)
