"""From a delta to the file that leaves the device, and to what stays behind for the next round."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from edgeml_client.filters import FilterStep, run_filters_
from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.filters.scaling import ScalingFilter
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.arrays import State
from edgeml_client.updates.coding import LeftOut
from edgeml_client.updates.coding.coded_source import CodedSource
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.streamed_delta import StreamedDelta
from edgeml_client.updates.streamed_update import StreamedUpdate, UpdateData
from edgeml_client.updates.update_file import encode_update, open_update
from edgeml_client.updates.vector import DeltaVector, NumberSource

__all__ = ["MadeUpdate", "make_update"]

AuditTrail = tuple[dict[str, JsonValue], ...]


@dataclass(frozen=True, slots=True)
class MadeUpdate:
    """An update that is ready to be stored.

    Attributes:
        data: The update file. One that is streamed needs the delta as it is, until it was sent.
        left_out: With error feedback, what the file lacks; it is stored together with the file. Until then
            the delta must stay as it is.
    """

    data: UpdateData
    left_out: LeftOut | None = None


def make_update(
    delta: State | DeltaVector | StreamedDelta,
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

    An update of a streamed delta, after filters that only scale, is made in a few blocks of memory. Of a
    coded one the file and what is selected are all that is ever held; a dense one is computed where it is
    read.

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
    before, ending = split_coded_ending(steps)
    if ending is None or not (allow_coded or ending.has_error_feedback):
        filtered, factors, trail = _filtered(delta, steps, generator)
        return MadeUpdate(StreamedUpdate(header_for(trail), CodedSource(filtered, factors, None)))
    filtered, factors, trail = _filtered(delta, before, generator)
    header = header_for((*trail, *_audit(ending.steps)))
    residual = None
    if ending.has_error_feedback:
        residual = residuals.open(filtered.layout, model_id=header.model_id, round_id=header.round_id)
    source = CodedSource(filtered, factors, residual)
    data = ending.encode(header, source, generator=generator)
    if residual is None:
        return MadeUpdate(data)
    update = open_update(data, layout)
    left_out = LeftOut(source, update, follows=residual.sequence)
    return MadeUpdate(data if allow_coded else encode_update(header, dict(update.arrays())), left_out)


def _filtered(
    delta: State | DeltaVector | StreamedDelta,
    steps: Sequence[FilterStep],
    generator: np.random.Generator | None,
) -> tuple[NumberSource, tuple[float, ...], AuditTrail]:
    """Return numbers, what they still have to be multiplied by, and the audit trail."""
    scaling = [step.step for step in steps if isinstance(step.step, ScalingFilter) and step.step.only_scales]
    if len(scaling) < len(steps):
        vector, trail = _run(delta, steps, generator)
        return vector, (), trail
    source = _streamed(delta)
    norm, factors = source.norm(), list[float]()
    for scaled in scaling:
        factors.append(scaled.factor_for(norm))
        norm *= factors[-1]
    return source, tuple(factor for factor in factors if factor != 1.0), _audit(steps)


def _run(
    delta: State | DeltaVector | StreamedDelta,
    steps: Sequence[FilterStep],
    generator: np.random.Generator | None,
) -> tuple[DeltaVector, AuditTrail]:
    """Return the delta as a filtered vector, and the audit trail."""
    source = _streamed(delta)
    vector, norm = (source, source.norm()) if isinstance(source, DeltaVector) else source.vector()
    ran = [done.step for done in run_filters_(vector, steps, norm=norm, generator=generator)]
    return vector, _audit(ran)


def _streamed(delta: State | DeltaVector | StreamedDelta) -> DeltaVector | StreamedDelta:
    return delta if isinstance(delta, DeltaVector | StreamedDelta) else StreamedDelta.of(delta)


def _audit(steps: Iterable[FilterStep]) -> AuditTrail:
    return tuple(step.for_upload() for step in steps)
