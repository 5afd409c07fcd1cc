"""Positions survive their coding, in the smallest of three forms, and nothing else is read as positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.coding import Coding
from edgeml_client.updates.coding.frames import FrameReader, compress
from edgeml_client.updates.coding.index import decode_index, encode_index, from_gaps, to_gaps
from edgeml_client.updates.coding.spec import IndexKind

SPAN = 3000
INT8 = Coding(values="int8", block=256, scales="float32")
FLOAT32 = Coding(values="float32")

positions = st.sets(st.integers(0, SPAN - 1), min_size=1, max_size=400).map(
    lambda chosen: np.array(sorted(chosen), np.int64)
)


@settings(max_examples=200, deadline=None)
@given(positions)
def test_gaps_of_any_length_come_back(chosen: np.ndarray) -> None:
    coded = to_gaps(chosen)

    assert coded.size <= chosen.size + SPAN // 255
    np.testing.assert_array_equal(from_gaps(coded, count=chosen.size, span=SPAN), chosen)


@settings(max_examples=100, deadline=None)
@given(positions, st.sampled_from([INT8, FLOAT32]))
def test_every_form_the_writer_chooses_is_read_back(chosen: np.ndarray, coding: Coding) -> None:
    kind, stream = encode_index(chosen, span=SPAN, coding=coding)
    count = SPAN if kind is IndexKind.EVERY else chosen.size

    found = decode_index(kind, memoryview(stream), count=count, span=SPAN, reader=FrameReader())

    if kind is not IndexKind.EVERY:
        np.testing.assert_array_equal(found, chosen)


@pytest.mark.parametrize(
    ("density", "coding", "kind"),
    [
        (0.1, INT8, IndexKind.GAPS),
        (0.5, FLOAT32, IndexKind.BITMAP),  # half of the values would be zeros of four bytes
        (0.95, INT8, IndexKind.EVERY),  # 0.05 bytes a position for zeros, against 0.125 for the bitmap
        (1.0, FLOAT32, IndexKind.EVERY),
    ],
)
def test_the_writer_takes_the_smallest_form(density: float, coding: Coding, kind: IndexKind) -> None:
    span = 1 << 16
    chosen = np.flatnonzero(np.random.default_rng(0).random(span) < density)

    assert encode_index(chosen, span=span, coding=coding)[0] is kind


@pytest.mark.parametrize(
    ("coded", "count", "message"),
    [
        ([0, 255], 1, "does not hold"),  # ends within a gap
        ([0, 255], 2, "does not hold"),
        ([0, 0, 0], 2, "does not hold"),
        ([0, 0], 3, "does not hold"),
        ([9, 0], 2, "position 10 of a chunk of 10"),
    ],
)
def test_gaps_that_miss_their_count_or_their_chunk_are_refused(
    coded: list[int], count: int, message: str
) -> None:
    with pytest.raises(InvalidUpdateError, match=message):
        from_gaps(np.array(coded, np.uint8), count=count, span=10)


@pytest.mark.parametrize(
    ("kind", "stream", "count"),
    [
        (0, b"", 9),  # every position, but not as many values
        (0, b"\0", 10),
        (2, b"\xff", 8),  # ten positions need two bytes
        (2, b"\xff\x07", 10),  # a bit beyond the span
        (2, b"\xff\x01", 10),
        (3, b"", 0),
        (2**32 - 1, b"", 0),
        (1, b"", 1),
        (1, compress(b"\0\0"), 1),  # more gaps than a chunk of ten can have
        (1, compress(b"\0") + b"\0", 1),
        (1, compress(b"\0") + compress(b"\0"), 1),
        (1, compress(b"\0")[:-1], 1),
    ],
)
def test_an_index_that_does_not_fit_is_refused(kind: int, stream: bytes, count: int) -> None:
    with pytest.raises(InvalidUpdateError):
        decode_index(kind, memoryview(stream), count=count, span=10, reader=FrameReader())
