"""The end of a round's filters that travels as a coded update instead of a filtered float32 vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.compression import QuantizationFilter, SparsificationFilter
from edgeml_client.filters.error_feedback import ErrorFeedbackFilter
from edgeml_client.filters.step import FilterStep
from edgeml_client.updates.coding import Coding

__all__ = ["CodedEnding", "split_coded_ending"]


@dataclass(frozen=True, slots=True)
class CodedEnding:
    """How an update is coded.

    Attributes:
        coding: How values are coded.
        fraction: The fraction of the numbers that is sent.
        has_error_feedback: Whether what is dropped is kept for the next round.
        steps: The filters this stands for, in their order.
    """

    coding: Coding
    fraction: float
    has_error_feedback: bool
    steps: tuple[FilterStep, ...]


def split_coded_ending(
    steps: Sequence[FilterStep],
) -> tuple[tuple[FilterStep, ...], CodedEnding | None]:
    """Return the filters to run on the vector, and the coding that their last ones ask for.

    The ending is ``error_feedback``, ``sparsification`` and ``quantization``, in this order, each of them
    optional; at least one of the last two makes it one. Only 4, 8 and 16 bits have a coded form.

    Raises:
        FilterConfigError: ``error_feedback`` stands elsewhere, or before a quantization without a coded form.

    Example:
        >>> from edgeml_client.filters import resolve_filters
        >>> steps = resolve_filters([
        ...     {"type": "gradient_clip", "max_norm": 1.0},
        ...     {"type": "sparsification", "top_k": 0.1},
        ...     {"type": "quantization", "bits": 4},
        ... ])
        >>> before, ending = split_coded_ending(steps)
        >>> [step.type for step in before], ending.coding.values, ending.fraction
        (['gradient_clip'], 'int4', 0.1)
    """
    before = list(steps)
    quantization = _pop_last(before, QuantizationFilter)
    sparsification = _pop_last(before, SparsificationFilter)
    feedback = _pop_last(before, ErrorFeedbackFilter) if quantization or sparsification else None
    if any(isinstance(step.step, ErrorFeedbackFilter) for step in before):
        raise FilterConfigError(
            "filter 'error_feedback' must stand directly before the 'sparsification' or 'quantization' that "
            "ends the filters: it keeps what these two drop"
        )
    bits: Any = quantization.step.parameters["bits"] if quantization else None
    coding = Coding.for_bits(bits)
    if coding is None and feedback is not None:
        raise FilterConfigError("filter 'error_feedback' works with 'quantization' to 4, 8 or 16 bits")
    if coding is None or not (quantization or sparsification):
        return tuple(steps), None
    taken = tuple(step for step in (feedback, sparsification, quantization) if step)
    fraction: Any = sparsification.step.parameters["top_k"] if sparsification else 1.0
    return tuple(before), CodedEnding(coding, fraction, feedback is not None, taken)


def _pop_last(steps: list[FilterStep], kind: type) -> FilterStep | None:
    return steps.pop() if steps and isinstance(steps[-1].step, kind) else None
