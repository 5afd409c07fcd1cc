"""Small integers with scales: never off by more than half a step, zero stays zero, ends are finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.coding import Coding
from edgeml_client.updates.coding.levels import dequantize, pack, quantize, unpack

LARGEST = float(np.finfo(np.float32).max)
codings = st.builds(
    Coding,
    values=st.sampled_from(["int4", "int8", "int16"]),
    block=st.just(8),
    scales=st.sampled_from(["float32", "bfloat16"]),
)
values = hnp.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.one_of(
        st.floats(width=32, allow_nan=False, allow_infinity=False),
        st.sampled_from([0.0, -0.0, 1e-45, -1e-38, LARGEST, -LARGEST]),
        st.floats(-1, 1, width=32),
    ),
)


def runs_of(count: int) -> np.ndarray:
    return np.array([min(8, count - start) for start in range(0, count, 8)])


@settings(max_examples=400, deadline=None)
@given(values, codings)
def test_a_reader_gets_what_the_writer_foresaw(numbers: np.ndarray, coding: Coding) -> None:
    coded = quantize(numbers, runs=runs_of(numbers.size), coding=coding)

    stream = np.frombuffer(pack(coded.levels, coding), np.uint8)
    levels = unpack(stream, count=numbers.size, coding=coding)
    read = dequantize(levels, coded.scales, runs=runs_of(numbers.size), coding=coding)

    assert stream.size == coding.num_value_bytes(numbers.size)
    assert np.isfinite(read).all()
    np.testing.assert_array_equal(read, coded.decoded)


@settings(max_examples=400, deadline=None)
@given(values, codings)
def test_what_is_sent_and_what_is_kept_are_what_was_there(numbers: np.ndarray, coding: Coding) -> None:
    r""":math:`y + (x - y) = x` bit by bit, except where the very largest scale had to be cut off."""
    coded = quantize(numbers, runs=runs_of(numbers.size), coding=coding)

    kept = numbers - coded.decoded

    if np.abs(numbers).max() < LARGEST / 2:
        np.testing.assert_array_equal(coded.decoded + kept, numbers)
        steps = np.repeat(coded.scales, runs_of(numbers.size)).astype(np.float64)
        slack = np.abs(numbers) * 2.0**-23 + (2.0**-126) * (steps == 0) * coding.largest_level
        assert (np.abs(kept) <= steps / 2 + slack).all()
    assert (coded.decoded[numbers == 0] == 0).all()


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-100, 100, width=32)),
    codings,
    st.sampled_from([1, 3, 7]),
)
def test_fewer_levels_make_a_coarser_grid_that_any_reader_reads(
    numbers: np.ndarray, coding: Coding, largest_level: int
) -> None:
    """No level is larger than asked for, and half a step is half a scale: m / largest_level / 2."""
    runs = runs_of(numbers.size)

    coded = quantize(numbers, runs=runs, coding=coding, largest_level=largest_level)

    assert np.abs(coded.levels).max() <= largest_level
    assert np.array_equal(dequantize(coded.levels, coded.scales, runs=runs, coding=coding), coded.decoded)
    steps = np.repeat(coded.scales, runs).astype(np.float64)
    slack = np.abs(numbers) * 2.0**-22 + (2.0**-126) * (steps == 0) * largest_level
    assert (np.abs(coded.decoded.astype(np.float64) - numbers) <= steps / 2 + slack).all()


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_random_rounding_is_right_in_the_mean(bits: int) -> None:
    """A value a third of the way between two levels goes up once in three times.

    20,000 draws of a variable in {0, 1} with mean 1/3 have a mean within 6 * sqrt(2/9/20000) = 0.02 of it.
    """
    coding = Coding.for_bits(bits)
    assert coding is not None
    step = np.float32(0.5)
    numbers = np.full(20_000, (2 + 1 / 3) * step, np.float32)
    numbers[0] = coding.largest_level * step  # makes the scale the step

    coded = quantize(numbers, runs=np.array([20_000]), coding=coding, generator=np.random.default_rng(0))

    assert set(np.unique(coded.levels[1:])) == {2, 3}
    assert abs(float(coded.levels[1:].mean()) - (2 + 1 / 3)) < 0.02
    assert coded.levels[0] == coding.largest_level


@pytest.mark.parametrize("scale", [np.nan, -1.0, np.inf, 1e-45, LARGEST, 0.0])
def test_a_scale_that_no_writer_makes_is_refused(scale: float) -> None:
    coding = Coding(values="int4", block=8, scales="float32")

    with pytest.raises(InvalidUpdateError, match="scale"):
        dequantize(
            np.array([0, 1], np.int8), np.array([scale], np.float32), runs=np.array([2]), coding=coding
        )


def test_a_zero_scale_is_right_where_all_is_zero() -> None:
    coding = Coding(values="int4", block=8, scales="float32")
    levels, scales = np.array([0, 0, 3], np.int8), np.array([0, 2], np.float32)

    assert dequantize(levels, scales, runs=np.array([2, 1]), coding=coding).tolist() == [0, 0, 6]


@pytest.mark.parametrize(("values", "lowest"), [("int4", -8), ("int8", -128), ("int16", -32_768)])
def test_the_most_negative_integer_is_refused(values: str, lowest: int) -> None:
    coding = Coding(values=values, block=8, scales="float32")  # type: ignore[arg-type]

    with pytest.raises(InvalidUpdateError, match="lowest level"):
        dequantize(np.array([lowest]), np.ones(1, np.float32), runs=np.array([1]), coding=coding)


def test_half_a_byte_that_stands_for_nothing_is_zero() -> None:
    coding = Coding(values="int4", block=8, scales="float32")

    assert unpack(np.array([0xF1], np.uint8), count=2, coding=coding).tolist() == [1, -1]
    assert unpack(np.array([0x01], np.uint8), count=1, coding=coding).tolist() == [1]
    with pytest.raises(InvalidUpdateError, match="half byte"):
        unpack(np.array([0xF1], np.uint8), count=1, coding=coding)


@pytest.mark.parametrize(
    "fields",
    [
        {"values": "float32", "scales": "float32"},
        {"values": "float32", "block": 64},
        {"values": "int8"},
        {"values": "int8", "scales": "float32", "block": 7},
        {"values": "int7", "scales": "float32"},
    ],
)
def test_a_coding_that_makes_no_sense_cannot_be_spelled(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Coding.model_validate(fields)
