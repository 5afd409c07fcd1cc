"""Adding a float32 mean to arrays as they lie in a model file, whatever their floating dtype.

NumPy has no bfloat16, so its bits are widened and rounded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["ADDABLE_DTYPES", "add_to_stored"]

Float32Array = npt.NDArray[np.float32]
RawBytes = npt.NDArray[np.uint8]

_QUIET_NAN_BIT: Final = np.uint32(0x0040)
_EXPONENT_AND_MANTISSA: Final = np.uint32(0x7FFF_FFFF)
_INFINITY: Final = np.uint32(0x7F80_0000)


def _add_float64(stored: RawBytes, mean: Float32Array) -> npt.NDArray[np.generic]:
    return stored.view("<f8") + mean.astype(np.float64)


def _add_float32(stored: RawBytes, mean: Float32Array) -> npt.NDArray[np.generic]:
    return stored.view("<f4") + mean


def _add_float16(stored: RawBytes, mean: Float32Array) -> npt.NDArray[np.generic]:
    with np.errstate(over="ignore"):  # an overflow is reported by the caller as what it is
        return (stored.view("<f2").astype(np.float32) + mean).astype("<f2")


def _add_bfloat16(stored: RawBytes, mean: Float32Array) -> npt.NDArray[np.generic]:
    widened = (stored.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return _rounded_to_bfloat16(widened + mean)


def _rounded_to_bfloat16(values: Float32Array) -> npt.NDArray[np.uint16]:
    """Return the upper halves of the values, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    is_nan = (bits & _EXPONENT_AND_MANTISSA) > _INFINITY
    lowest_kept = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + lowest_kept) >> np.uint32(16)
    return np.where(is_nan, (bits >> np.uint32(16)) | _QUIET_NAN_BIT, rounded).astype("<u2")


_ADD: Final[Mapping[str, Callable[[RawBytes, Float32Array], npt.NDArray[np.generic]]]] = {
    "F64": _add_float64,
    "F32": _add_float32,
    "F16": _add_float16,
    "BF16": _add_bfloat16,
}

ADDABLE_DTYPES: Final = frozenset(_ADD)
"""The safetensors names of the dtypes that can be averaged."""


def add_to_stored(stored: RawBytes, mean: Float32Array, *, dtype: str) -> tuple[bytes, bool]:
    """Return the bytes of ``stored + mean`` in the stored dtype, and whether all of them are finite.

    The sum is made in float32 (in float64 for F64) and rounded once.

    Args:
        stored: The bytes of a flat array, little-endian as in a safetensors file.
        mean: As many float32 values.
        dtype: The safetensors name of the stored dtype, one of :data:`ADDABLE_DTYPES`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        result = _ADD[dtype](stored, mean)
    return result.tobytes(), _is_finite(result, dtype=dtype)


def _is_finite(result: npt.NDArray[np.generic], *, dtype: str) -> bool:
    if dtype == "BF16":
        exponents = result.view(np.uint16) & np.uint16(0x7F80)
        return not bool(np.any(exponents == np.uint16(0x7F80)))
    return bool(np.all(np.isfinite(result.view(result.dtype))))
