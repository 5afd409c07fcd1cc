"""Which positions of a chunk have values: as gaps, as a bitmap, or as all of them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.coding.frames import FrameReader, compress
from edgeml_client.updates.coding.spec import Coding, IndexKind

__all__ = ["Positions", "decode_index", "encode_index"]

Positions = npt.NDArray[np.int64]
"""What reading gives; writing takes narrower integers too."""
AnyPositions = npt.NDArray[np.integer[Any]]
Bytes = npt.NDArray[np.uint8]

_ESCAPE: Final = 255
_GAPS_PAY_BELOW: Final = 0.4
"""The fraction of kept positions from which a bitmap is surely smaller than gaps."""


def encode_index(positions: AnyPositions, *, span: int, coding: Coding) -> tuple[IndexKind, bytes]:
    """Return the smallest form of ``positions``, of which there is at least one.

    ``EVERY`` means that the caller writes a value for each position, zeros included.

    Args:
        positions: Strictly ascending, from 0 to below ``span``.
        span: How many positions the chunk has.
        coding: Decides what a superfluous zero costs.
    """
    if positions.size == span:
        return IndexKind.EVERY, b""
    bitmap_bytes = (span + 7) // 8
    zeros_bytes = coding.num_value_bytes(span) - coding.num_value_bytes(positions.size)
    if positions.size < _GAPS_PAY_BELOW * span:
        gaps = compress(to_gaps(positions).data)
        if len(gaps) < min(bitmap_bytes, zeros_bytes):
            return IndexKind.GAPS, gaps
    if zeros_bytes <= bitmap_bytes:
        return IndexKind.EVERY, b""
    mask = np.zeros(span, np.bool_)
    mask[positions] = True
    return IndexKind.BITMAP, np.packbits(mask, bitorder="little").tobytes()


def decode_index(
    kind: int, stream: memoryview, *, count: int, span: int, reader: FrameReader
) -> Positions | None:
    """Return the positions that ``stream`` stands for; ``None`` means all.

    Raises:
        InvalidUpdateError: The stream is not what ``kind``, ``count`` and ``span`` allow.
    """
    match kind:
        case IndexKind.EVERY:
            if len(stream) or count != span:
                raise InvalidUpdateError("a chunk without an index has a value for each position")
            return None
        case IndexKind.GAPS:
            raw = reader.read(stream, at_least=count, at_most=count + span // _ESCAPE)
            return from_gaps(np.frombuffer(raw, np.uint8), count=count, span=span)
        case IndexKind.BITMAP:
            return _from_bitmap(np.frombuffer(stream, np.uint8), count=count, span=span)
        case _:
            raise InvalidUpdateError(f"index kind {kind} is unknown; this version reads 0, 1 and 2")


def to_gaps(positions: AnyPositions) -> Bytes:
    """Return the gaps before each position as bytes: 255 adds 255, any other byte ends a gap.

    Example:
        >>> to_gaps(np.array([0, 2, 258, 514])).tolist()
        [0, 1, 255, 0, 255, 0]
    """
    gaps = positions.copy()
    gaps[1:] -= positions[:-1]
    gaps[1:] -= 1
    if gaps.max() < _ESCAPE:
        return gaps.astype(np.uint8)
    num_escapes, last = np.divmod(gaps, _ESCAPE)
    ends = np.cumsum(num_escapes + 1)
    coded = np.full(int(ends[-1]), _ESCAPE, np.uint8)
    coded[ends - 1] = last
    return coded


def from_gaps(coded: Bytes, *, count: int, span: int) -> Positions:
    """Return the positions that :func:`to_gaps` coded; they ascend strictly, whatever the bytes are.

    Raises:
        InvalidUpdateError: They are not ``count``, or leave the chunk.
    """
    steps = coded.astype(np.int64)
    if coded.size == count:  # no escapes, or not as many positions as there should be
        steps += 1
        positions = np.cumsum(steps, out=steps)
        has_escapes = bool(np.any(coded == _ESCAPE))
    else:
        is_end = coded != _ESCAPE
        steps += is_end
        positions = np.cumsum(steps, out=steps)[is_end]
        has_escapes = not is_end[-1] or positions.size != count
    if has_escapes:
        raise InvalidUpdateError(f"an index does not hold the {count} positions it should")
    positions -= 1
    if positions[-1] >= span:
        raise InvalidUpdateError(f"an index goes to position {positions[-1]} of a chunk of {span}")
    return positions


def _from_bitmap(packed: Bytes, *, count: int, span: int) -> Positions:
    if packed.size != (span + 7) // 8:
        raise InvalidUpdateError(f"a bitmap of {packed.size} bytes does not stand for {span} positions")
    positions = np.flatnonzero(np.unpackbits(packed, bitorder="little"))
    if positions.size != count or (count and positions[-1] >= span):
        raise InvalidUpdateError(f"a bitmap does not hold the {count} positions it should")
    return positions
