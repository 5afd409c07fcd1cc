"""Adding a float32 mean to arrays as they lie in a model file, whatever their floating dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml_client.updates.arrays import NUMPY_DTYPES, Float32Array, raw_bytes, widen_bfloat16
from edgeml_client.updates.layout import DType

__all__ = ["add_to_stored"]


def add_to_stored(
    stored: memoryview, mean: Float32Array, *, dtype: DType, at_least: float = -np.inf
) -> tuple[memoryview, bool]:
    """Return the bytes of ``stored + mean`` in the stored dtype, and whether all of them are finite.

    The sum is made in float32 (in float64 for F64) and rounded once.

    Args:
        stored: The bytes of a flat array, little-endian as in a safetensors file.
        mean: As many float32 values.
        dtype: The safetensors name of the stored dtype, a floating one.
        at_least: What is below this becomes this.
    """
    wide = np.float64 if dtype == "F64" else np.float32
    before = np.frombuffer(stored, NUMPY_DTYPES[dtype])
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
        widened: npt.NDArray[Any] = np.asarray(
            widen_bfloat16(before) if dtype == "BF16" else before, dtype=wide
        )
        total = widened + mean
        if at_least > -np.inf:
            np.maximum(total, at_least, out=total)
        result = raw_bytes(total, dtype=dtype)
    return result, _is_finite(result, dtype=dtype)


def _is_finite(result: memoryview, *, dtype: DType) -> bool:
    stored = np.frombuffer(result, NUMPY_DTYPES[dtype])
    wide = widen_bfloat16(stored) if dtype == "BF16" else stored
    numbers = wide.astype(np.float32) if dtype == "F16" else wide
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum of squares is finite only if all numbers are, and takes a tenth of the time of asking each.
        # If it is not, they may still be: the squares of large numbers overflow.
        return bool(np.isfinite(np.dot(numbers, numbers)) or np.isfinite(numbers).all())
