"""Numbers of a vector chosen at random, the same ones on every device that shares a seed."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from edgeml_client.updates.coding.selection import Positions
from edgeml_client.updates.coding.spec import CHUNK_LENGTH, num_chunks

__all__ = ["select_random"]


def select_random(size: int, *, count: int, seed: int, round_id: str = "") -> list[Positions]:
    """Return for each chunk the positions of ``count`` numbers, ascending, every one as likely as another.

    Each chunk gets its share of the count, rounded so that the sum is exact; within a chunk every subset of
    that many positions is equally likely. The choice depends on the arguments alone: it is made from the
    raw stream of PCG64 DXSM, which NumPy promises to keep.

    Args:
        size: The numbers in the vector.
        count: How many to select, at most ``size``.
        seed: Shared by the devices, at least 0.
        round_id: Makes the choice another one in each round.
    """
    bits = np.random.PCG64DXSM(_entropy(seed, round_id))
    selected: list[Positions] = []
    for start in range(0, num_chunks(size) * CHUNK_LENGTH, CHUNK_LENGTH):
        stop = min(size, start + CHUNK_LENGTH)
        share = count * stop // size - count * start // size
        drawn = bits.random_raw((stop - start + 1) // 2)  # two keys of 32 bits each
        selected.append(_smallest(drawn.astype("<u8").view("<u4")[: stop - start], share))
    return selected


def _smallest(keys: npt.NDArray[np.uint32], count: int) -> Positions:
    """Return where the ``count`` smallest keys are, ascending; the first of equals."""
    if count == 0:
        return np.empty(0, np.int64)
    threshold = np.partition(keys, count - 1)[count - 1]
    is_chosen = keys < threshold
    tied = np.flatnonzero(keys == threshold)
    is_chosen[tied[: count - np.count_nonzero(is_chosen)]] = True
    return np.flatnonzero(is_chosen)


def _entropy(seed: int, round_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{round_id}".encode()).digest(), "little")
