r"""Numbers as small integers with shared scales, and back.

A run of values :math:`x` with :math:`m = \max |x|` has the scale :math:`s \ge m / L`, rounded up to the type
of the scales, and the levels :math:`q = \mathrm{round}(x / s) \in \{-L, \dots, L\}`. What a reader gets is
:math:`q \cdot s`, one float32 multiplication. Zero is always level zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.spec import Coding

__all__ = ["Quantized", "dequantize", "have_one_magnitude", "pack", "quantize", "unpack"]

Levels = npt.NDArray[np.signedinteger[Any]]

_SMALLEST_NORMAL: Final = np.float32(np.finfo(np.float32).tiny)
_LARGEST: Final = float(np.finfo(np.float32).max)
_LOWEST_HALF: Final = np.uint32(0xFFFF)
_SIGN: Final = np.int8(8)
"""Of a half byte: flipping it and taking it off again extends the sign."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """Values on their grid.

    Attributes:
        levels: One integer a value.
        scales: One float32 a run, representable in the type of the scales.
        decoded: The values as a reader will see them.
    """

    levels: Levels
    scales: Float32Array
    decoded: Float32Array


def quantize(
    values: Float32Array,
    *,
    runs: npt.NDArray[np.int64],
    coding: Coding,
    largest_level: int | None = None,
    generator: np.random.Generator | None = None,
) -> Quantized:
    """Return finite values on the grid of ``coding``, or on a coarser one.

    Args:
        values: The numbers, at least one.
        runs: The lengths of the runs that share a scale, each at least 1.
        coding: An integer coding.
        largest_level: The largest magnitude of the integers to use, at most that of ``coding``, which is the
            default. With fewer, magnitudes above the largest scale there is end at that scale.
        generator: With one, values are rounded up or down at random, so that the mean of what is decoded is
            the value; without, to the nearest level, ties to even.
    """
    highest = largest_level or coding.largest_level
    starts = np.cumsum(runs)
    starts -= runs
    largest: Float32Array = np.maximum.reduceat(np.abs(values), starts)
    largest /= np.float32(highest)
    scales = _round_up(largest, coding)
    divisors = np.where(scales > 0, scales, np.float32(np.inf))
    scaled: Float32Array = np.divide(values, np.repeat(divisors, runs))
    if generator is None:
        np.rint(scaled, out=scaled)
    else:
        scaled += generator.random(scaled.size, dtype=np.float32)
        np.floor(scaled, out=scaled)
    np.clip(scaled, -highest, highest, out=scaled)
    levels: Levels = scaled.astype(np.int16) if coding.values == "int16" else scaled.astype(np.int8)
    scaled *= np.repeat(scales, runs)
    return Quantized(levels, scales, scaled)


def _round_up(scales: Float32Array, coding: Coding) -> Float32Array:
    """Return scales in the type of the coding, not smaller where it goes; subnormal ones become 0."""
    bits = np.minimum(scales, _highest_scale(coding)).view(np.uint32)
    if coding.scales == "bfloat16":
        rounded = (bits + _LOWEST_HALF) & ~_LOWEST_HALF
        bits = np.minimum(rounded, _highest_scale(coding).view(np.uint32))
    kept = bits.view(np.float32)
    return np.where(kept >= _SMALLEST_NORMAL, kept, np.float32(0))


def _highest_scale(coding: Coding) -> np.float32:
    """Return the largest scale in the type of the coding whose product with the largest level is finite."""
    highest = np.float32(_LARGEST / coding.largest_level)
    if float(highest) * coding.largest_level > _LARGEST:
        highest = np.nextafter(highest, np.float32(0))
    if coding.scales == "bfloat16":
        highest = (highest.view(np.uint32) & ~_LOWEST_HALF).view(np.float32)
    return np.float32(highest)


def dequantize(
    levels: Levels, scales: Float32Array, *, runs: npt.NDArray[np.int64], coding: Coding
) -> Float32Array:
    """Return ``level * scale`` for each level.

    Raises:
        InvalidUpdateError: A scale is NaN, negative (-0 is) or too large, or is zero in a run that holds
            other levels; or a level is the most negative integer, which no grid has.
    """
    if levels.min() < -coding.largest_level:
        raise InvalidUpdateError(
            f"a value is below -{coding.largest_level}, the lowest level of {coding.values}"
        )
    is_positive = (scales >= _SMALLEST_NORMAL) & (scales <= _highest_scale(coding))
    if not is_positive.all():
        if not (is_positive | ((scales == 0) & ~np.signbit(scales))).all():
            raise InvalidUpdateError("a scale is NaN, negative (-0 is), subnormal or too large")
        starts = np.cumsum(runs) - runs
        if np.add.reduceat(np.abs(levels.astype(np.int32)), starts)[~is_positive].any():
            raise InvalidUpdateError("a scale is zero, but its values are not")
    numbers = levels.astype(np.float32)
    numbers *= np.repeat(scales, runs)
    return numbers


def have_one_magnitude(levels: Levels) -> bool:
    """Return whether levels that are not zero differ by nothing but their signs."""
    magnitudes = np.abs(levels)
    return bool(((magnitudes == magnitudes.max()) | (magnitudes == 0)).all())


def pack(levels: Levels, coding: Coding) -> memoryview:
    """Return levels as bytes: little-endian integers; int4 as nibbles, the lower one first."""
    if coding.values != "int4":
        return levels.astype(levels.dtype.newbyteorder("<"), copy=False).view(np.uint8).data
    if levels.size % 2:
        levels = np.append(levels, np.int8(0))
    pairs = np.ascontiguousarray(levels).view(np.dtype("<u2"))
    return ((pairs & 0x0F) | ((pairs >> 4) & 0xF0)).astype(np.uint8).data


def unpack(data: npt.NDArray[np.uint8], *, count: int, coding: Coding) -> Levels:
    """Return the ``count`` levels that :func:`pack` wrote.

    Raises:
        InvalidUpdateError: A superfluous nibble is not zero.
    """
    if coding.values != "int4":
        stored = np.dtype(coding.values).newbyteorder("<")
        return data.view(stored).astype(stored.newbyteorder("="), copy=False)
    nibbles = data.astype(np.dtype("<u2"))
    nibbles |= nibbles << 4
    nibbles &= (
        0x0F0F  # the low half byte of each pair lies in the low byte now, the high one in the high byte
    )
    levels = nibbles.view(np.int8)
    levels ^= _SIGN
    levels -= _SIGN
    if levels.size > count and levels[-1]:
        raise InvalidUpdateError("the last half byte of a chunk's values stands for nothing, but is not zero")
    return levels[:count]
