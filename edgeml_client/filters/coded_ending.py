"""The end of a round's filters that travels as a coded update instead of a filtered float32 vector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.delta_filter import DeltaFilter
from edgeml_client.filters.effects import Sparsity
from edgeml_client.filters.error_feedback import ErrorFeedbackFilter
from edgeml_client.filters.low_rank import LowRankFilter
from edgeml_client.filters.quantization import QuantizationFilter, Rounding
from edgeml_client.filters.sparsification import SparsificationFilter
from edgeml_client.filters.step import FilterStep
from edgeml_client.filters.stochastic_sign import StochasticSignFilter
from edgeml_client.filters.vector_filter import secure_generator
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.array_names import is_variance
from edgeml_client.updates.coding import Coding, encode_coded
from edgeml_client.updates.coding.spec import MAX_RANK
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.vector import NumberSource

__all__ = ["CodedEnding", "split_coded_ending"]

_FLOATS: Final = Coding(values="float32")
_SIGNS: Final = Coding(values="int4", scales="float32")
"""Signs with a magnitude for each array."""

_SIGNS_BESIDE_VARIANCES: Final = Coding(values="int8", scales="float32")
"""The same, and 8 bits for the variances, which stochastic_sign leaves alone."""

_BITS_OF_A_SIGN: Final = {"int4": 1.02, "int8": 1.5}
"""What compression makes of two levels in no order."""

_WIDTHS: Final = (4, 8, 16)

_FEWEST_BITS_OF_FACTORS: Final[Mapping[Rounding, int]] = {"nearest": 4, "stochastic": 6}
"""With fewer, more may be added to a matrix by rounding its factors than these hold of it."""


@dataclass(frozen=True, slots=True)
class CodedEnding:
    """How an update is coded.

    Attributes:
        coding: How values are coded.
        steps: The filters this stands for, in their order; none if it loses nothing.
        sparsification: Selects the numbers that are sent; without, all are that are not zero.
        quantization: Puts them on a grid.
        has_error_feedback: Whether what is dropped is kept for the next round.
    """

    coding: Coding
    steps: tuple[FilterStep, ...] = ()
    sparsification: SparsificationFilter | None = None
    quantization: QuantizationFilter | None = None
    has_error_feedback: bool = False

    @property
    def bits_per_value(self) -> float:
        """The bits of a value that is sent, before what compression makes of patterns in them."""
        if self.coding.scales is None:
            return 32.0
        if self.quantization is None:
            return _BITS_OF_A_SIGN[self.coding.values]
        return math.log2(2 * self.quantization.largest_level + 1)

    def for_layout(self, layout: Layout) -> CodedEnding:
        """Return it as it codes these arrays: where variances stand among signs, two levels are too few."""
        if self.coding == _SIGNS and any(is_variance(name) for name in layout.names):
            return replace(self, coding=_SIGNS_BESIDE_VARIANCES)
        return self

    def encode(
        self,
        header: UpdateHeader,
        source: NumberSource,
        *,
        generator: np.random.Generator | None = None,
    ) -> bytes:
        """Return the file of the update.

        Args:
            header: The envelope.
            source: The update before these filters.
            generator: The source of stochastic rounding; by default one seeded by the operating system.

        Raises:
            InvalidUpdateError: The source holds NaN or Inf, or a private array.
        """
        selection, grid = self.sparsification, self.quantization
        is_random = grid is not None and grid.rounding == "stochastic"
        return encode_coded(
            header,
            source,
            coding=self.for_layout(source.layout).coding,
            selected=selection.select(source) if selection else None,
            largest_level=grid.largest_level if grid else None,
            generator=(generator or secure_generator()) if is_random else None,
        )


def split_coded_ending(
    steps: Sequence[FilterStep],
) -> tuple[tuple[FilterStep, ...], CodedEnding | None]:
    """Return the filters to run on the vector, and how what they leave is coded.

    ``error_feedback``, ``sparsification`` or ``low_rank``, and ``quantization`` at the end, in this order and
    each of them optional, are carried out by the coding itself; subclasses of them run as they are, and so
    does a rank above what the coding knows. Otherwise an update that is known to hold zeros is coded without
    a loss. Any other one has no coded form.

    Raises:
        FilterConfigError: ``error_feedback`` stands elsewhere, or before factors of too few bits.

    Example:
        >>> from edgeml_client.filters import resolve_filters
        >>> steps = resolve_filters([
        ...     {"type": "gradient_clip", "max_norm": 1.0},
        ...     {"type": "sparsification", "top_k": 0.1},
        ...     {"type": "quantization", "bits": 4},
        ... ])
        >>> before, ending = split_coded_ending(steps)
        >>> [step.type for step in before], ending.coding.values, ending.sparsification.top_k
        (['gradient_clip'], 'int4', 0.1)
    """
    before, taken = list(steps), list[FilterStep]()
    quantization = _take_last_(before, QuantizationFilter, taken)
    sparsification = _take_last_(before, SparsificationFilter, taken)
    rank = None if sparsification else _take_rank_(before, taken)
    feedback = _take_last_(before, ErrorFeedbackFilter, taken) if taken else None
    if any(isinstance(step.step, ErrorFeedbackFilter) for step in before):
        raise FilterConfigError(
            "filter 'error_feedback' must stand directly before the 'sparsification', 'quantization' or "
            f"'low_rank' (of rank {MAX_RANK} at most) that ends the filters: it keeps what these drop"
        )
    if not taken:
        return tuple(before), _without_loss(before)
    if feedback and rank and quantization:
        _require_fine_factors(quantization)
    coding = _integers(quantization.bits) if quantization else _FLOATS
    coding = coding.model_copy(update={"rank": rank})
    ending = CodedEnding(coding, tuple(taken), sparsification, quantization, feedback is not None)
    return tuple(before), ending


def _require_fine_factors(quantization: QuantizationFilter) -> None:
    fewest = _FEWEST_BITS_OF_FACTORS[quantization.rounding]
    if quantization.bits < fewest:
        raise FilterConfigError(
            f"filter 'error_feedback' cannot make up for factors of {quantization.bits} bits: what it keeps "
            f"would grow in every round; behind 'low_rank', with {quantization.rounding} rounding, write "
            f"{fewest} bits or more"
        )


_Filter = TypeVar("_Filter", bound=DeltaFilter)


def _take_last_(before: list[FilterStep], kind: type[_Filter], taken: list[FilterStep]) -> _Filter | None:
    last = before[-1].step if before else None
    if type(last) is not kind:  # a subclass may do something else
        return None
    taken.insert(0, before.pop())
    return last


def _take_rank_(before: list[FilterStep], taken: list[FilterStep]) -> int | None:
    """Return the rank of the factors that are sent; ``None`` if none are."""
    last = before[-1].step if before else None
    if not isinstance(last, LowRankFilter) or last.rank > MAX_RANK:
        return None
    return last.rank if _take_last_(before, LowRankFilter, taken) else None


def _without_loss(steps: Sequence[FilterStep]) -> CodedEnding | None:
    """Return how the numbers that are left by ``steps`` are coded; ``None`` if a dense file is smaller."""
    if steps and type(steps[-1].step) is StochasticSignFilter:
        return CodedEnding(_SIGNS)
    return CodedEnding(_FLOATS) if _leave_zeros(steps) else None


def _integers(bits: int) -> Coding:
    """Return the coding with the narrowest integers that hold the levels of so many bits."""
    return Coding.for_bits(next(width for width in _WIDTHS if bits <= width)) or _FLOATS


def _leave_zeros(steps: Sequence[FilterStep]) -> bool:
    """Return whether zeros that a filter made are still there after the last one."""
    has_zeros = False
    for step in steps:
        if step.step.effects.sparsity is not Sparsity.KEEPS:
            has_zeros = step.step.effects.sparsity not in (Sparsity.FILLS, Sparsity.UNKNOWN)
    return has_zeros
