"""A delta that is computed while it is read, so that it takes no memory of its own.

Making a coded update needs each number three times: for the norm, for the selection, and for what is left
out. Subtracting anew is as fast as reading a vector of differences would be, and saves that vector: a model.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml_client.updates.arrays import (
    Array,
    Float32Array,
    State,
    as_numpy,
    layout_of,
    numbers_in_place,
    widen_bfloat16,
)
from edgeml_client.updates.layout import DType, Layout
from edgeml_client.updates.vector import BLOCK, DeltaVector, blocks_of, norm_from, sum_of_squares

__all__ = ["StreamedDelta", "require_same"]

Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """One array of a delta: ``after - before``, or ``after`` alone."""

    after: Numbers
    before: Numbers | None
    wide: npt.DTypeLike

    def read_into(self, target: Float32Array, *, first: int) -> None:
        last = first + target.size
        if self.before is None:
            target[...] = _widened(self.after[first:last], np.float32)
            return
        after, before = (
            _widened(self.after[first:last], self.wide),
            _widened(self.before[first:last], self.wide),
        )
        np.subtract(after, before, out=target, casting="same_kind")


class StreamedDelta:
    """The floating arrays of a delta, computed block by block where they are read.

    The arrays it was made from must stay as they are while it is in use, and are not changed by it. Those
    that cannot be read in place, on another device or not contiguous, are subtracted at once.

    Attributes:
        layout: Names and shapes; every dtype is float32.

    Example:
        >>> base, updated = {"w": np.ones(2, np.float32)}, {"w": np.array([4.0, 5.0], np.float32)}
        >>> delta = StreamedDelta.between(base, updated)
        >>> delta.norm(), delta.vector()[0].values.tolist()
        (5.0, [3.0, 4.0])
    """

    def __init__(self, layout: Layout, parts: Iterable[_Part]) -> None:
        self.layout = layout
        self._parts: list[_Part] = []
        self._starts: list[int] = []
        end = 0
        for part in parts:
            if part.after.size:
                self._parts.append(part)
                self._starts.append(end)
            end += part.after.size

    @classmethod
    def between(cls, base_state: State, updated_state: State) -> StreamedDelta:
        """Return the same differences as :func:`~edgeml_client.updates.delta.compute_state_dict_delta`.

        Whether they are finite is not checked here: taking the norm does.

        Raises:
            ModelMismatchError: An array is missing, extra or of another shape, or one side is floating and
                the other is not; the message lists all of them.
        """
        base, updated = require_same(base_state, updated_state)
        layout = base.floating.as_float32()
        wide = {spec.name: _wide(spec.dtype, updated[spec.name].dtype) for spec in base.floating}
        return cls(layout, (_difference(base_state[n], updated_state[n], wide=wide[n]) for n in layout.names))

    @classmethod
    def of(cls, arrays: State) -> StreamedDelta:
        """Return a delta that is at hand as arrays, NumPy or torch.

        Raises:
            ModelMismatchError: An entry is no dense floating array.
        """
        layout = layout_of(arrays).as_float32()
        return cls(layout, (_alone(arrays[name]) for name in layout.names))

    def read_into(self, target: Float32Array, *, start: int) -> None:
        """Compute the numbers from position ``start`` on; what leaves the range of float32 becomes Inf."""
        number = bisect_right(self._starts, start) - 1
        filled = 0
        with np.errstate(over="ignore", invalid="ignore"):
            while filled < target.size:
                part, first = self._parts[number], start + filled - self._starts[number]
                length = min(part.after.size - first, target.size - filled)
                part.read_into(target[filled : filled + length], first=first)
                filled += length
                number += 1

    def norm(self) -> float:
        """Return the L2 norm over all arrays.

        Raises:
            NonFiniteError: An array holds NaN or Inf; the error names it.
        """
        scratch = np.empty(min(self.layout.size, BLOCK), np.float64)
        squares = sum((sum_of_squares(block, scratch=scratch) for _, block in blocks_of(self)), 0.0)
        return norm_from(squares, self)

    def vector(self) -> tuple[DeltaVector, float]:
        """Return all numbers as one vector, and its L2 norm: both from one pass.

        Raises:
            NonFiniteError: An array holds NaN or Inf; the error names it.
        """
        vector = DeltaVector.empty(self.layout)
        scratch = np.empty(min(self.layout.size, BLOCK), np.float64)
        squares = 0.0
        for start in range(0, vector.values.size, BLOCK):
            block = vector.values[start : start + BLOCK]
            self.read_into(block, start=start)
            squares += sum_of_squares(block, scratch=scratch)
        return vector, norm_from(squares, vector)


def require_same(base_state: State, updated_state: State) -> tuple[Layout, Layout]:
    """Return the layouts of two states of the same model.

    Raises:
        ModelMismatchError: An array is missing, extra or of another shape, or one side is floating and the
            other is not; the message lists all of them.
    """
    base, updated = layout_of(base_state), layout_of(updated_state)
    base.require_same_arrays(
        updated, summary="the trained state is not that of the global model:", match_dtypes=False
    )
    base.floating.require_same_arrays(
        updated.floating, summary="an array changed between floating and integer:", match_dtypes=False
    )
    return base, updated


def _wide(*dtypes: DType) -> npt.DTypeLike:
    return np.float64 if "F64" in dtypes else np.float32


def _difference(before: Array, after: Array, *, wide: npt.DTypeLike) -> _Part:
    in_place_before, in_place_after = numbers_in_place(before), numbers_in_place(after)
    if in_place_before is not None and in_place_after is not None:
        return _Part(in_place_after, in_place_before, wide)
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.subtract(as_numpy(after, dtype=wide), as_numpy(before, dtype=wide))
        return _Part(np.asarray(exact).astype(np.float32, copy=False).reshape(-1), None, np.float32)


def _alone(array: Array) -> _Part:
    in_place = numbers_in_place(array)
    if in_place is None:
        in_place = as_numpy(array, dtype=np.float32).reshape(-1)
    return _Part(in_place, None, np.float32)


def _widened(numbers: Numbers, dtype: npt.DTypeLike) -> Numbers:
    if numbers.dtype == np.uint16:
        numbers = widen_bfloat16(numbers)
    return numbers.astype(dtype, copy=False)
