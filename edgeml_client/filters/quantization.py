"""Fewer bits: the numbers of an update on a grid."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import AfterValidator
from typing_extensions import override

from edgeml_client.filters.effects import FilterEffects, Sparsity
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.vector import BLOCK, DeltaVector

__all__ = ["QuantizationFilter", "Rounding", "quantize_"]

Rounding = Literal["nearest", "stochastic"]
"""How a number between two grid points becomes one of them."""

_BITS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 16)


def _checked_bits(value: int) -> int:
    if value not in _BITS:
        raise ValueError("bits are 1 to 8, or 16")
    return value


class NumBits(FilterParameters):
    """``bits``: 1 to 8, or 16; ``rounding``."""

    bits: Annotated[int, AfterValidator(_checked_bits)]
    rounding: Rounding = "nearest"


class QuantizationFilter(VectorFilter):
    r"""``quantization{bits}``: round the numbers of each array to a symmetric grid that holds zero.

    With :math:`m` the largest magnitude of an array and :math:`L = \max(1, 2^{b-1} - 1)`, the grid is
    :math:`\{-L, \dots, L\} \cdot m / L`. Zeros stay exactly zero, so it may follow sparsification, and no
    number moves by more than half a step (beyond the rounding of float32). One and two bits share the grid
    :math:`\{-m, 0, m\}`.

    With *stochastic* rounding (QSGD: Alistarh et al., 2017, https://arxiv.org/abs/1610.02132, section 3.1) a
    number :math:`x` between grid points :math:`a < b` becomes :math:`b` with probability
    :math:`(x - a) / (b - a)`: its expectation is :math:`x`, and it moves by less than one step.

    At the end of a round's filters the grid is made for blocks of numbers instead of whole arrays, because
    the update travels so (``docs/wire-format.md``).

    Args:
        bits: Bits per number: 1 to 8, or 16.
        rounding: ``"nearest"``, or ``"stochastic"``.
    """

    filter_type = "quantization"
    parameters_type = NumBits
    effects = FilterEffects(sparsity=Sparsity.ADDS, arrays_apart=True)

    def __init__(self, bits: int, *, rounding: Rounding = "nearest") -> None:
        super().__init__(bits=bits, rounding=rounding)
        self.bits = int(bits)
        self.rounding: Rounding = rounding
        self.effects = replace(type(self).effects, bits_per_number=self.bits)

    @property
    def largest_level(self) -> int:
        """:math:`L`, the grid points on either side of zero."""
        return max(1, (1 << (self.bits - 1)) - 1)

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        chance = generator if self.rounding == "stochastic" else None
        for view in vector.views().values():
            quantize_(view, largest_level=self.largest_level, generator=chance)


def quantize_(
    values: Float32Array, *, largest_level: int, generator: np.random.Generator | None = None
) -> None:
    """Round an array to the grid that :class:`QuantizationFilter` describes; at random with a generator."""
    largest = float(max(np.max(values, initial=0.0), -np.min(values, initial=0.0)))
    if largest == 0.0:
        return
    step = largest / largest_level
    flat = values.reshape(-1)
    scratch = np.empty(min(flat.size, BLOCK), np.float64)
    for start in range(0, flat.size, BLOCK):
        block = flat[start : start + BLOCK]
        levels = np.divide(block, step, out=scratch[: block.size], dtype=np.float64)
        if generator is None:
            np.rint(levels, out=levels)
        else:
            levels += generator.random(levels.size)
            np.floor(levels, out=levels)
        np.clip(levels, -largest_level, largest_level, out=levels)
        np.multiply(levels, step, out=block, casting="same_kind")
