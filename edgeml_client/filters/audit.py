"""What each filter did to an update, measured with as few passes over it as its declaration allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.filters.effects import Sparsity
from edgeml_client.filters.result import AuditEntry
from edgeml_client.filters.step import FilterStep
from edgeml_client.updates.coding.factors import stored_layout
from edgeml_client.updates.coding.size import expected_num_bytes
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.vector import DeltaVector

__all__ = ["RanFilter", "audited"]


@dataclass(frozen=True, slots=True)
class RanFilter:
    """A filter that ran.

    Attributes:
        step: The filter.
        norm_before: The L2 norm of the update before it ran.
        norm_after: The same afterwards.
    """

    step: FilterStep
    norm_before: float
    norm_after: float


def audited(ran: Iterable[RanFilter], vector: DeltaVector) -> Iterator[AuditEntry]:
    """Yield the audit entry of each filter right after it ran.

    The numbers that are not zero are counted once before the first filter, and then only after filters that
    do not declare that zeros stay as they are.

    Args:
        ran: Each filter once it ran on ``vector``.
        vector: The numbers so far.
    """
    so_far: list[FilterStep] = []
    num_kept = vector.count_nonzero()
    for done in ran:
        so_far.append(done.step)
        num_before = num_kept
        if done.step.step.effects.sparsity is not Sparsity.KEEPS:
            num_kept = vector.count_nonzero()
        yield AuditEntry(
            type=done.step.type,
            parameters=done.step.parameters,
            norm_before=done.norm_before,
            norm_after=done.norm_after,
            kept_fraction=num_kept / max(1, vector.values.size),
            num_bytes=_num_bytes(so_far, vector.layout, num_before=num_before, num_kept=num_kept),
        )


def _num_bytes(steps: Sequence[FilterStep], layout: Layout, *, num_before: int, num_kept: int) -> int:
    """Return the bytes of the update if it left the device after these filters.

    Args:
        steps: The filters so far.
        layout: The arrays.
        num_before: How many numbers were not zero before the last filter: what quantization rounds to zero
            is sent as a zero.
        num_kept: How many are not zero afterwards.
    """
    _, ending = split_coded_ending(steps)
    if ending is None:
        return layout.num_delta_bytes
    ending = ending.for_layout(layout)
    stored = stored_layout(layout, ending.coding.rank)
    num_values = min(stored.size, num_before if ending.quantization else num_kept)
    return expected_num_bytes(
        ending.coding, stored, num_values=num_values, bits_per_value=ending.bits_per_value
    )
