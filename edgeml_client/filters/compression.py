"""Filters that leave fewer distinct numbers, so that an update compresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import AfterValidator, Field
from typing_extensions import override

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters, rename
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.selection import count_to_keep
from edgeml_client.updates.vector import DeltaVector

__all__ = ["QuantizationFilter", "SparsificationFilter", "quantize_", "sparsify_"]

_BITS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 16)


class TopK(FilterParameters):
    """``top_k``, a fraction above 0 and at most 1."""

    top_k: Annotated[float, Field(gt=0, le=1)]


class SparsificationFilter(VectorFilter):
    """``sparsification{top_k}``: keep the largest numbers of the *whole* update, set the others to zero.

    Exactly ``ceil(top_k * n)`` of the ``n`` numbers are kept, also among equals, where the first in the order
    of array names and then of positions win. On its own this loses most of an update's norm: devices that use
    it round after round should carry what was dropped over to the next round (error feedback).

    Args:
        top_k: The fraction to keep, above 0 and at most 1. Configs may say ``top_k_percent`` instead.
    """

    filter_type = "sparsification"
    parameters_type = TopK
    effects = FilterEffects(
        sensitivity=Sensitivity.KEEPS, sparsity=Sparsity.SELECTS_LARGEST, bits_per_number=None
    )

    def __init__(self, top_k: float) -> None:
        super().__init__(top_k=top_k)
        self.top_k = float(top_k)

    @classmethod
    @override
    def _canonical(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        percent = values.get("top_k_percent")
        if isinstance(percent, int | float) and not isinstance(percent, bool):
            values = {**values, "top_k_percent": percent / 100}
        top_k = values.get("top_k")
        if isinstance(top_k, int | float) and top_k > 1:
            raise FilterConfigError(
                f"filter {cls.filter_type!r}: top_k = {top_k!r} is no fraction in (0, 1]; "
                "to give percent, write 'top_k_percent'"
            )
        return rename(values, old="top_k_percent", new="top_k", filter_type=cls.filter_type)

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        sparsify_(vector.values, num_kept=count_to_keep(vector.values.size, self.top_k))


def sparsify_(values: Float32Array, *, num_kept: int) -> None:
    """Set all but the ``num_kept`` largest magnitudes of a flat array to zero; the first of equals stay."""
    if num_kept >= values.size:
        return
    # The bits of non-negative floats sort as the floats do, and NumPy partitions integers far faster.
    magnitudes = np.abs(values).view(np.int32)
    threshold = np.partition(magnitudes, values.size - num_kept)[values.size - num_kept]
    kept = magnitudes > threshold
    tied = np.flatnonzero(magnitudes == threshold)
    kept[tied[: num_kept - int(np.count_nonzero(kept))]] = True
    np.copyto(values, 0.0, where=~kept)


def _checked_bits(value: int) -> int:
    if value not in _BITS:
        raise ValueError("bits are 1 to 8, or 16")
    return value


class NumBits(FilterParameters):
    """``bits``: 1 to 8, or 16."""

    bits: Annotated[int, AfterValidator(_checked_bits)]


class QuantizationFilter(VectorFilter):
    r"""``quantization{bits}``: round the numbers of each array to a symmetric grid that holds zero.

    With :math:`m` the largest magnitude of an array and :math:`L = \max(1, 2^{b-1} - 1)`, the grid is
    :math:`\{-L, \dots, L\} \cdot m / L`. Zeros stay exactly zero, so it may follow sparsification, and no
    number moves by more than half a step (beyond the rounding of float32). One and two bits share the grid
    :math:`\{-m, 0, m\}`.

    Args:
        bits: Bits per number: 1 to 8, or 16.
    """

    filter_type = "quantization"
    parameters_type = NumBits

    def __init__(self, bits: int) -> None:
        super().__init__(bits=bits)
        self.bits = int(bits)
        self.effects = FilterEffects(sparsity=Sparsity.ADDS, bits_per_number=self.bits)

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        for view in vector.views().values():
            quantize_(view, bits=self.bits)


def quantize_(values: Float32Array, *, bits: int) -> None:
    """Round an array to the grid that :class:`QuantizationFilter` describes."""
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0.0:
        return
    step = largest / max(1, 2 ** (bits - 1) - 1)
    values[...] = np.rint(values.astype(np.float64) / step) * step
