"""The largest numbers of a vector, exactly as many as asked for, without sorting the vector.

A sample gives a guess that lies a little below the threshold; one pass collects what is not below the guess,
and the threshold is found among that. The result does not depend on the guess: when too few numbers
were collected, the guess is replaced by the threshold itself.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.coding.spec import CHUNK_LENGTH, num_chunks

__all__ = ["Positions", "count_to_keep", "select_largest"]

Float32Array = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]

_BLOCK: Final = 1 << 16
_RUN: Final = 256
_STRIDE: Final = 1 << 14
_SMALLEST: Final = np.float32(1e-45)
_FEW: Final = 1 << 17


def count_to_keep(size: int, fraction: float) -> int:
    """Return ``ceil(fraction * size)``, computed so that 10 % of 30 is 3 and not 4; at least 1 of any."""
    return min(size, max(1, math.ceil(round(fraction * size, 6))))


def select_largest(values: Float32Array, *, count: int) -> list[Positions]:
    """Return for each chunk the positions of the ``count`` largest magnitudes, ascending.

    Among equals the first positions win. Zeros are never selected, so fewer than ``count`` come back
    when there are fewer numbers that are not zero.

    Args:
        values: A flat vector.
        count: How many to select, at least 0.

    Raises:
        InvalidUpdateError: A number is NaN or Inf.
    """
    if count == 0:
        return [np.empty(0, np.int64)] * num_chunks(values.size)
    if count >= values.size:
        return _by_chunk(_collect(values, _SMALLEST)[0])
    found, magnitudes = _collect(values, _guess(values, count))
    if magnitudes.size < count:
        exact = np.partition(np.abs(values), values.size - count)[values.size - count]
        found, magnitudes = _collect(values, max(exact, _SMALLEST))
    if magnitudes.size > count:
        threshold = np.partition(magnitudes, magnitudes.size - count)[magnitudes.size - count]
        found = _reaching(found, magnitudes, threshold=threshold, count=count)
    return _by_chunk(found)


def _guess(values: Float32Array, count: int) -> np.float32:
    """Return a magnitude that a few more than ``count`` numbers probably reach."""
    if values.size <= _FEW:
        sample = np.abs(values)
        surplus = count
    else:
        whole = values[: values.size // _STRIDE * _STRIDE].reshape(-1, _STRIDE)
        sample = np.abs(whole[:, :_RUN]).reshape(-1)
        expected = sample.size * count / values.size
        surplus = math.ceil(1.05 * expected + 4 * math.sqrt(expected))
    if surplus >= sample.size:
        return _SMALLEST
    guess: np.float32 = np.partition(sample, sample.size - surplus)[sample.size - surplus]
    return max(guess, _SMALLEST)


def _collect(values: Float32Array, at_least: np.float32) -> tuple[list[Positions], Float32Array]:
    """Return per block the positions of what is not below ``at_least``, and all those magnitudes in order.

    A position is relative to the chunk that its block belongs to.
    """
    found: list[Positions] = []
    magnitudes: list[Float32Array] = []
    scratch = np.empty(_BLOCK, np.float32)
    for start in range(0, values.size, _BLOCK):
        block = np.abs(values[start : start + _BLOCK], out=scratch[: min(_BLOCK, values.size - start)])
        is_less = block < at_least
        positions = np.flatnonzero(np.logical_not(is_less, out=is_less))  # NaN is not less either
        magnitudes.append(block[positions])
        positions += start % CHUNK_LENGTH
        found.append(positions)
    together = np.concatenate(magnitudes) if magnitudes else np.empty(0, np.float32)
    if not math.isfinite(float(together.max(initial=0.0))):
        raise InvalidUpdateError("the vector holds NaN or Inf")
    return found, together


def _reaching(
    found: list[Positions], magnitudes: Float32Array, *, threshold: np.float32, count: int
) -> list[Positions]:
    """Return per block the positions of the ``count`` largest, with ``threshold`` the least of them."""
    is_kept = magnitudes > threshold
    tied = np.flatnonzero(magnitudes == threshold)
    is_kept[tied[: count - np.count_nonzero(is_kept)]] = True
    ends = np.cumsum([positions.size for positions in found])
    return [
        positions[is_kept[end - positions.size : end]] for positions, end in zip(found, ends, strict=True)
    ]


def _by_chunk(blocks: list[Positions]) -> list[Positions]:
    per_chunk = CHUNK_LENGTH // _BLOCK
    return [np.concatenate(blocks[first : first + per_chunk]) for first in range(0, len(blocks), per_chunk)]
