"""The largest numbers of a source, exactly as many as asked for, without sorting or storing all of them.

A sample gives a guess that lies a little below the threshold; one pass collects what is not below the guess,
and the threshold is found among that. The result does not depend on the guess: when too few numbers
were collected, a lower guess is tried.

Magnitudes are compared as the bits of the float32 numbers without the sign, which sort as the numbers do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.arrays import Float32Array
from edgeml_client.updates.coding.spec import CHUNK_LENGTH
from edgeml_client.updates.vector import BLOCK, NumberSource, blocks_of

__all__ = ["Positions", "Selected", "count_to_keep", "read_selected", "select_largest"]

Positions = npt.NDArray[np.integer[Any]]
Bits = npt.NDArray[np.int32]

_RUN: Final = 1024
_STRIDE: Final = 1 << 16
_FEW: Final = 1 << 17
_WITHOUT_SIGN: Final = np.int32(0x7FFF_FFFF)
_SMALLEST: Final = np.int32(1)
_INFINITY: Final = np.int32(0x7F80_0000)


@dataclass(frozen=True, slots=True)
class Selected:
    """What was selected of one chunk.

    Attributes:
        positions: Relative to the chunk, ascending.
        values: The numbers there.
    """

    positions: Positions
    values: Float32Array


def count_to_keep(size: int, fraction: float) -> int:
    """Return ``ceil(fraction * size)``, computed so that 10 % of 30 is 3 and not 4; at least 1 of any."""
    return min(size, max(1, math.ceil(round(fraction * size, 6))))


def select_largest(source: NumberSource, *, count: int) -> Iterator[Selected]:
    """Yield for each chunk the ``count`` largest magnitudes of the whole source.

    Among equals the first positions win. Zeros are never selected, so fewer than ``count`` come back
    when there are fewer numbers that are not zero. What was found takes about ``9 * count`` bytes at most.

    Args:
        source: The numbers.
        count: How many to select, at least 0.

    Raises:
        InvalidUpdateError: A number is NaN or Inf.
    """
    starts = range(0, source.layout.size, CHUNK_LENGTH)
    if count == 0:
        return iter([Selected(np.empty(0, np.int32), np.empty(0, np.float32))] * len(starts))
    if count >= source.layout.size:
        return (_all_of(source, start) for start in starts)
    found = _enough(source, count)
    threshold, num_tied = _threshold(found, count)
    return _reaching(found, threshold, num_tied=num_tied)


def read_selected(source: NumberSource, selected: Iterable[Positions]) -> Iterator[Selected]:
    """Yield for each chunk the numbers at given positions.

    Args:
        source: The numbers.
        selected: The positions in each chunk, ascending and relative to its start.

    Raises:
        InvalidUpdateError: A number of the source is NaN or Inf.
    """
    for number, positions in enumerate(selected):
        yield Selected(positions, _chunk(source, number * CHUNK_LENGTH).take(positions))


def _chunk(source: NumberSource, start: int) -> Float32Array:
    values = np.empty(min(CHUNK_LENGTH, source.layout.size - start), np.float32)
    source.read_into(values, start=start)
    _require_finite(_magnitudes(values))
    return values


def _all_of(source: NumberSource, start: int) -> Selected:
    values = _chunk(source, start)
    positions = np.flatnonzero(values)
    return Selected(positions, values if positions.size == values.size else values[positions])


def _enough(source: NumberSource, count: int) -> deque[Selected]:
    """Return per block at least the ``count`` largest numbers, or all that are not zero."""
    sample = _sample(source)
    expected = count * sample.size / source.layout.size
    surplus = math.ceil(1.05 * expected + 4 * math.sqrt(expected))
    if sample.size == source.layout.size:
        surplus = count
    while True:
        guess = _SMALLEST
        if 0 < surplus < sample.size:
            guess = max(np.partition(sample, sample.size - surplus)[sample.size - surplus], _SMALLEST)
        found = _collect(source, guess)
        if guess == _SMALLEST or sum(block.values.size for block in found) >= count:
            return found
        surplus *= 2


def _sample(source: NumberSource) -> Bits:
    """Return some of the magnitudes, all if they are few."""
    size = source.layout.size
    starts, length = ([0], size) if size <= _FEW else (range(0, size - _RUN, _STRIDE), _RUN)
    sample = np.empty(len(starts) * length, np.float32)
    for number, start in enumerate(starts):
        source.read_into(sample[number * length : (number + 1) * length], start=start)
    return _magnitudes(sample)


def _collect(source: NumberSource, at_least: np.int32) -> deque[Selected]:
    """Return per block what is not below ``at_least``; positions are relative to the block, in 16 bits."""
    found: deque[Selected] = deque()
    longest = min(BLOCK, source.layout.size)
    bits = np.empty(longest, np.int32)
    is_found = np.empty(longest + longest // 8, np.bool_)
    for _, block in blocks_of(source):
        magnitudes = _magnitudes(block, out=bits[: block.size])
        np.greater_equal(magnitudes, at_least, out=is_found[: block.size])
        # NumPy finds what is true without branches, three times as fast, if that is more than a tenth of all:
        # so some that are surely true follow behind, and are left out again.
        end = block.size + block.size // 8
        is_found[block.size : end] = True
        positions = np.flatnonzero(is_found[:end])[: block.size - end or None]
        found.append(Selected(positions.astype(np.uint16), block.take(positions)))
    return found


def _threshold(found: Iterable[Selected], count: int) -> tuple[np.int32, int]:
    """Return the least magnitude of the ``count`` largest, and how many of its equals are among them."""
    magnitudes = np.concatenate([block.values for block in found]).view(np.int32)
    magnitudes &= _WITHOUT_SIGN
    _require_finite(magnitudes)
    if magnitudes.size <= count:
        return _SMALLEST, count
    first = magnitudes.size - count
    magnitudes.partition(first)
    threshold: np.int32 = magnitudes[first]
    num_above = sum(
        int(np.count_nonzero(magnitudes[start : start + BLOCK] > threshold))
        for start in range(first, magnitudes.size, BLOCK)
    )
    return threshold, count - num_above


def _reaching(found: deque[Selected], threshold: np.int32, *, num_tied: int) -> Iterator[Selected]:
    """Yield per chunk what is above ``threshold``, and the first ``num_tied`` of what equals it."""
    while found:
        blocks = [found.popleft() for _ in range(min(len(found), CHUNK_LENGTH // BLOCK))]
        values = np.concatenate([block.values for block in blocks])
        positions = np.concatenate([block.positions for block in blocks], dtype=np.int32)
        end = 0
        for number, block in enumerate(blocks):
            first, end = end, end + block.positions.size
            positions[first:end] += number * BLOCK
        del blocks
        magnitudes = _magnitudes(values)
        is_kept = magnitudes > threshold
        tied = np.flatnonzero(magnitudes == threshold)[:num_tied]
        is_kept[tied] = True
        num_tied -= tied.size
        kept = np.flatnonzero(is_kept)  # twice as fast as two selections by a mask
        yield Selected(positions.take(kept), values.take(kept))


def _magnitudes(values: Float32Array, *, out: Bits | None = None) -> Bits:
    return np.bitwise_and(values.view(np.int32), _WITHOUT_SIGN, out=out)


def _require_finite(magnitudes: Bits) -> None:
    if magnitudes.max(initial=0) >= _INFINITY:
        raise InvalidUpdateError("the vector holds NaN or Inf")
