"""How many bytes a coded update takes, from how many numbers it sends: computed, not coded."""

from __future__ import annotations

import math
from typing import Final

from edgeml_client.updates.coding.spec import Coding, num_chunks
from edgeml_client.updates.layout import Layout

__all__ = ["expected_num_bytes"]

_TABLE_ROW_BYTES: Final = 16
_SCALE_BYTES: Final = {"float32": 4, "bfloat16": 2, None: 0}
_OVER_ENTROPY: Final = 1.02
"""What gaps take, as a multiple of the entropy of positions that are spread evenly."""


def expected_num_bytes(coding: Coding, layout: Layout, *, num_values: int, bits_per_value: float) -> int:
    """Return about how many bytes a coded update file takes, its header not counted.

    Positions cost the entropy of as many that are spread evenly. Patterns in positions or values compress
    further than that.

    Args:
        coding: How values are coded.
        layout: The arrays of the update.
        num_values: How many numbers are sent.
        bits_per_value: What each takes, without its share of a scale.
    """
    num_scales = len(layout) if coding.block is None else -(-num_values // coding.block)
    streams = (
        num_values * bits_per_value / 8
        + num_scales * _SCALE_BYTES[coding.scales]
        + _index_bytes(layout.size, num_values, bits_per_value)
    )
    return math.ceil(streams) + _TABLE_ROW_BYTES * num_chunks(layout.size)


def _index_bytes(size: int, num_values: int, bits_per_value: float) -> float:
    """Return the bytes of the positions, or of the zeros that are sent instead, whichever are fewer."""
    if num_values in (0, size):
        return 0.0
    share = num_values / size
    entropy = -size * (share * math.log2(share) + (1 - share) * math.log2(1 - share))
    return min(_OVER_ENTROPY * entropy, size, (size - num_values) * bits_per_value) / 8
