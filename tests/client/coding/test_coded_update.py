"""A coded update: what is sent plus what is kept is what was there, and every way of reading it agrees."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates import DeltaVector, Layout, max_update_bytes, open_update, read_update_header
from edgeml_client.updates.coding import (
    CodedUpdateFile,
    Coding,
    LeftOut,
    count_to_keep,
    encode_coded,
)
from edgeml_client.updates.coding.selection import read_selected
from edgeml_client.updates.coding.spec import CHUNK_LENGTH
from edgeml_client.updates.update_file import read_arrays
from tests.client.coding.leftovers import numbers_of
from tests.envelopes import envelope

INT4 = Coding(values="int4", block=64, scales="bfloat16")
HEADER = envelope()

codings = st.one_of(
    st.just(Coding(values="float32")),
    st.builds(
        Coding,
        values=st.sampled_from(["int4", "int8", "int16"]),
        block=st.sampled_from([None, 8, 64, 256]),
        scales=st.sampled_from(["float32", "bfloat16"]),
    ),
)
shapes = st.lists(
    st.sampled_from([(), (0,), (1,), (3,), (2, 5), (1, 1, 7), (40, 9), (0, 4), (300,)]),
    min_size=1,
    max_size=6,
)


def vector_of(arrays: Mapping[str, np.ndarray]) -> DeltaVector:
    return DeltaVector.of(arrays)


def coded(data: bytes | Path, layout: Layout) -> CodedUpdateFile:
    update = open_update(data, layout)
    assert isinstance(update, CodedUpdateFile)
    return update


def dense(update: CodedUpdateFile) -> np.ndarray:
    return np.concatenate([np.empty(0, np.float32), *(array.reshape(-1) for _, array in update.arrays())])


def add_into_(total: np.ndarray, update: CodedUpdateFile, *, factor: float) -> None:
    """Add an update to a vector as the control plane does: without making it dense."""
    for chunk in update.chunks():
        chunk.add_into_(total[chunk.start : chunk.stop], first=chunk.start, factor=np.float32(factor))


@settings(max_examples=250, deadline=None)
@given(st.data(), shapes, codings, st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_round_trips(
    data: st.DataObject, some_shapes: list[tuple[int, ...]], coding: Coding, fraction: float
) -> None:
    elements = st.one_of(st.floats(-100, 100, width=32), st.sampled_from([0.0, -0.0, 1e-44, 5.0]))
    arrays = {
        f"layer.{number}": data.draw(hnp.arrays(np.float32, shape, elements=elements))
        for number, shape in enumerate(some_shapes)
    }
    vector = vector_of(arrays)
    before, layout = vector.values, vector.layout

    file = encode_coded(HEADER, vector, coding=coding, fraction=fraction)
    update = coded(file, layout)
    sent = dense(update)

    left_out = numbers_of(LeftOut(vector, coded(file, vector.layout), follows=0))
    np.testing.assert_array_equal(sent + left_out, before)
    np.testing.assert_array_equal(left_out, before - sent)
    assert file == encode_coded(HEADER, vector, coding=coding, fraction=fraction)
    assert np.count_nonzero(sent) <= count_to_keep(before.size, fraction)
    assert [(name, array.shape) for name, array in update.arrays()] == [(s.name, s.shape) for s in layout]
    assert update.header == read_update_header(file) == HEADER
    assert update.num_bytes == len(file) <= max_update_bytes(layout)
    assert update.check_finite() == pytest.approx(float(np.linalg.norm(sent.astype(np.float64))))
    total = np.full(before.size, 0.5, np.float32)
    add_into_(total, update, factor=3.0)
    np.testing.assert_array_equal(total, np.float32(0.5) + sent * np.float32(3.0))


@pytest.mark.parametrize("coding", [INT4, Coding(values="int8", scales="float32"), Coding(values="float32")])
@pytest.mark.parametrize("fraction", [0.1, 1.0])
def test_arrays_may_reach_over_chunks(coding: Coding, fraction: float, tmp_path: Path) -> None:
    """One array spans three chunks, a tiny one lies across a boundary, and a chunk of zeros lies between."""
    generator = np.random.default_rng(1)
    arrays = {
        "a": generator.standard_normal(CHUNK_LENGTH - 2, dtype=np.float32),
        "b": generator.standard_normal(5, dtype=np.float32),
        "c": np.zeros(2 * CHUNK_LENGTH + 9, np.float32),
        "d": generator.standard_normal((3, 70_000), dtype=np.float32),
    }
    arrays["c"][-1] = 9.0
    vector = vector_of(arrays)
    path = tmp_path / "update"

    file = encode_coded(HEADER, vector, coding=coding, fraction=fraction)
    path.write_bytes(file)

    sent = dense(coded(path, vector.layout))
    left_out = numbers_of(LeftOut(vector, coded(file, vector.layout), follows=0))
    np.testing.assert_array_equal(sent + left_out, vector.values)
    total = np.zeros_like(sent)
    add_into_(total, coded(path, vector.layout), factor=1.0)
    np.testing.assert_array_equal(total, sent)


def test_positions_may_be_given_instead_of_the_largest() -> None:
    vector = vector_of({"w": np.array([1.0, 2.0, 0.0, 4.0], np.float32)})

    file = encode_coded(
        HEADER,
        vector,
        coding=Coding(values="float32"),
        selected=read_selected(vector, [np.array([0, 2], np.int64)]),
    )

    assert dense(coded(file, vector.layout)).tolist() == [1, 0, 0, 0]
    assert numbers_of(LeftOut(vector, coded(file, vector.layout), follows=0)).tolist() == [0, 2, 0, 4]
    with pytest.raises(InvalidUpdateError, match="NaN or Inf"):
        next(read_selected(vector_of({"w": np.array([1.0, np.nan])}), [np.array([0], np.int64)]))


def test_the_same_delta_always_gives_the_same_bytes() -> None:
    numbers = np.random.default_rng(5).standard_normal(5_000, dtype=np.float32)

    first, second = (encode_coded(HEADER, vector_of({"w": numbers}), coding=INT4, fraction=0.1) for _ in "ab")

    assert first == second


def test_random_rounding_takes_its_chances_from_the_generator() -> None:
    numbers = np.random.default_rng(5).standard_normal(500, dtype=np.float32)

    def file(seed: int) -> bytes:
        return encode_coded(
            HEADER,
            vector_of({"w": numbers}),
            coding=INT4,
            fraction=0.5,
            generator=np.random.default_rng(seed),
        )

    assert file(1) == file(1) != file(2)


def test_a_tenth_in_four_bits_takes_a_tenth_of_a_byte_per_number() -> None:
    """Index 0.0593, levels about 0.035 after entropy coding, scales 2 / 640: 0.098; eight bits 0.144."""
    numbers = np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32)

    for bits, at_most in ((4, 0.10), (8, 0.145)):
        coding = Coding.for_bits(bits)
        assert coding is not None
        file = encode_coded(HEADER, vector_of({"w": numbers}), coding=coding, fraction=0.1)
        assert len(file) / numbers.size <= at_most


def test_private_arrays_are_no_part_of_the_vector() -> None:
    layout = vector_of({"body": np.ones(3), "head": np.ones(2)}).layout
    header = HEADER.model_copy(update={"private": ("head",)})
    vector = vector_of({"body": np.array([1.0, 2.0, 4.0], np.float32)})

    update = coded(encode_coded(header, vector, coding=Coding(values="float32")), layout)

    assert [(name, array.tolist()) for name, array in update.arrays()] == [("body", [1.0, 2.0, 4.0])]
    with pytest.raises(InvalidUpdateError, match=r"private arrays must stay.*\['head'\]"):
        encode_coded(header, vector_of({"head": np.ones(2)}), coding=INT4)


def test_ten_thousand_arrays_travel_in_one_stream() -> None:
    arrays = {f"layer.{number:05}.bias": np.full(3, number, np.float32) for number in range(10_000)}
    vector = vector_of(arrays)

    file = encode_coded(HEADER, vector, coding=Coding(values="int16", block=256, scales="float32"))

    assert len(file) < 70_000
    found = dict(coded(file, vector.layout).arrays())
    assert found["layer.09999.bias"] == pytest.approx(np.full(3, 9999.0), rel=1e-4)
    assert len(found) == 10_000


def test_an_update_without_any_change_is_tiny() -> None:
    vector = vector_of({"w": np.zeros(3_000_000, np.float32)})

    file = encode_coded(HEADER, vector, coding=INT4, fraction=0.1)

    assert len(file) < 1_000
    assert coded(file, vector.layout).check_finite() == 0.0
    assert list(coded(file, vector.layout).chunks()) == []


def test_reading_holds_one_array_and_one_chunk() -> None:
    """Twelve arrays of 2 MiB, 24 MiB in all. A chunk takes 4 MiB, its positions and values less than 2."""
    generator = np.random.default_rng(2)
    vector = vector_of({f"w{i:02}": generator.standard_normal(1 << 19, dtype=np.float32) for i in range(12)})
    layout = vector.layout
    file = encode_coded(HEADER, vector, coding=INT4, fraction=0.1)
    del vector
    tracemalloc.start()

    for _ in coded(file, layout).arrays():
        pass

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 11 * 2**20


def test_what_needs_the_layout_is_not_read_without_it() -> None:
    file = encode_coded(HEADER, vector_of({"w": np.ones(3)}), coding=INT4)

    with pytest.raises(InvalidUpdateError, match="into the legacy form"):
        read_arrays(file)
