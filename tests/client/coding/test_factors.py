"""Updates whose matrices travel as two factors of a low rank."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml_client.errors import InvalidUpdateError, NonFiniteError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import DeltaVector, open_update
from edgeml_client.updates.coding import Coding, encode_coded
from edgeml_client.updates.coding.factors import factored, products, stored_layout
from edgeml_client.updates.coding.spec import CHUNK_LENGTH
from tests.client.filters.arrays_strategy import deltas

FLOATS = Coding(values="float32", rank=2)


def low_rank_matrix(rows: int, columns: int, *, rank: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    left, right = rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns))
    return (left @ right).astype(np.float32)


def sent(header: UpdateHeader, delta: Any, coding: Coding) -> dict[str, Any]:
    vector = DeltaVector.of(delta)
    return dict(open_update(encode_coded(header, vector, coding=coding), vector.layout).arrays())


def test_matrices_of_that_rank_arrive_and_what_has_no_smaller_factors_as_it_is(header: UpdateHeader) -> None:
    """Rank 2 of 30 x 20: 2 * 50 < 600 numbers. Of 4 x 4: 2 * 8 numbers, no fewer than 16."""
    delta = {
        "kernel": low_rank_matrix(30, 18, rank=2).reshape(30, 2, 9),
        "small": np.arange(16, dtype=np.float32).reshape(4, 4),
        "vector": np.arange(5, dtype=np.float32),
        "number": np.float32(3),
        "empty": np.zeros((0, 7), np.float32),
        "weight": low_rank_matrix(30, 20, rank=2, seed=1),
    }

    arrays = sent(header, delta, FLOATS)

    assert list(arrays) == sorted(delta)
    for name in ("small", "vector", "number", "empty"):
        np.testing.assert_array_equal(arrays[name], delta[name])
    for name in ("kernel", "weight"):
        np.testing.assert_allclose(arrays[name], delta[name], rtol=1e-4, atol=1e-4)


def test_a_matrix_takes_the_bytes_of_its_factors(header: UpdateHeader) -> None:
    """1,000 x 1,000 in rank 4 and 8 bits: 4 * 2,000 bytes and 32 scales, a 500th of float32."""
    delta = {"w": np.random.default_rng(0).standard_normal((1000, 1000), np.float32)}
    coding = Coding(values="int8", block=256, scales="bfloat16", rank=4)

    data = encode_coded(header, DeltaVector.of(delta), coding=coding)

    assert len(data) < 8_000 + 64 + 1_000


@pytest.mark.parametrize("size", [1e-4, 1e4])
def test_a_block_that_reaches_over_both_factors_spoils_neither(header: UpdateHeader, size: float) -> None:
    """120 numbers of the left factor leave 8 of the right one in its second block of 64, with one scale.

    Of a rank of 3 nothing is lost but rounding to 8 bits, however large the numbers of the matrix are.
    """
    matrix = size * low_rank_matrix(40, 50, rank=3)
    coding = Coding(values="int8", block=64, scales="bfloat16", rank=3)

    arrived = sent(header, {"w": matrix}, coding)["w"]

    assert np.linalg.norm(arrived - matrix) < 0.02 * np.linalg.norm(matrix)


@settings(deadline=None)
@given(delta=deltas(), rank=st.integers(1, 4))
def test_factors_never_enlarge_an_update(delta: Any, rank: int, header: UpdateHeader) -> None:
    vector = DeltaVector.of(delta)

    arrays = sent(header, delta, Coding(values="float32", rank=rank))

    assert DeltaVector.of(arrays).norm() <= vector.norm()


@pytest.mark.parametrize("coding", [FLOATS, Coding(values="int8", scales="float32", rank=1)])
def test_chunks_and_arrays_hold_the_same_numbers_also_beyond_one_chunk(
    header: UpdateHeader, coding: Coding
) -> None:
    """1.5 chunks, in which one matrix crosses the border; its rows are longer than a block of work."""
    delta = {
        "a": low_rank_matrix(9, 70_000, rank=1),
        "b": np.arange(7, dtype=np.float32),
        "c": low_rank_matrix(900, 1000, rank=1, seed=1),
    }
    vector = DeltaVector.of(delta)
    update = open_update(encode_coded(header, vector, coding=coding), vector.layout)

    chunks = list(update.chunks())
    together = np.concatenate([chunk.values for chunk in chunks])

    assert [chunk.start for chunk in chunks] == [0, CHUNK_LENGTH]
    assert chunks[-1].stop == vector.layout.size
    np.testing.assert_array_equal(together, DeltaVector.of(dict(update.arrays())).values)
    np.testing.assert_allclose(together, vector.values, atol=0.1)
    assert update.check_finite() == pytest.approx(float(np.linalg.norm(together.astype(np.float64))))


def test_the_same_update_gives_the_same_bytes(header: UpdateHeader) -> None:
    """So a device that is killed and started again sends what it would have sent."""
    vector = DeltaVector.of({"w": np.random.default_rng(0).standard_normal((40, 30), np.float32)})

    assert encode_coded(header, vector, coding=FLOATS) == encode_coded(header, vector, coding=FLOATS)


def test_products_are_summed_in_the_order_of_the_document() -> None:
    """Term by term in float32: 2**24 + 1 - 2**24 is 0 from left to right, and 1 in any better order."""
    left = np.array([[2.0**24, 1.0, -(2.0**24)]], np.float32)
    right = np.ones((3, 2), np.float32)

    (product,) = products(left, right)

    assert product.tolist() == [[0.0, 0.0]]


def test_a_matrix_of_zeros_is_not_sent(header: UpdateHeader) -> None:
    vector = DeltaVector.of({"w": np.zeros((40, 30), np.float32)})

    assert not factored(vector, rank=2).values.any()
    assert not sent(header, {"w": np.zeros((40, 30))}, FLOATS)["w"].any()


def test_a_private_matrix_is_never_factored_into_an_update(header: UpdateHeader) -> None:
    vector = DeltaVector.of({"w": np.ones((40, 30), np.float32)})

    with pytest.raises(InvalidUpdateError, match="must stay on the device"):
        encode_coded(header.model_copy(update={"private": ("w",)}), vector, coding=FLOATS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_the_writer(header: UpdateHeader, bad: float) -> None:
    matrix = np.ones((40, 30), np.float32)
    matrix[3, 4] = bad

    with pytest.raises(NonFiniteError, match="'w"):
        encode_coded(header, DeltaVector.of({"w": matrix}), coding=FLOATS)


def test_factors_whose_product_is_not_finite_are_refused_by_name(header: UpdateHeader) -> None:
    """Each factor is finite: 1e30 * 1e30 is not, in float32."""
    matrix = DeltaVector.of({"b": np.zeros(3, np.float32), "w": np.ones((40, 30), np.float32)})
    stored = stored_layout(matrix.layout, 1)
    data = bytearray(encode_coded(header, matrix, coding=Coding(values="float32", rank=1)))
    numbers = np.frombuffer(data, np.float32, count=70, offset=len(data) - 280)
    numbers[...] = 1e30

    update = open_update(data, matrix.layout)

    assert [spec.shape for spec in stored] == [(3,), (40, 1), (1, 30)]
    with pytest.raises(NonFiniteError, match="'w'"):
        update.check_finite()


def with_rank(data: bytes, rank: str) -> bytes:
    """Return a file of rank 2 whose header says another one."""
    end = 8 + int.from_bytes(data[:8], "little")
    head = data[8:end].replace(b'\\"rank\\":2', b'\\"rank\\":' + rank.encode()).rstrip()
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + data[end:]


@pytest.mark.parametrize("rank", ["0", "-1", "65", "1.5", "true", r"\"2\""])
def test_other_ranks_are_refused(header: UpdateHeader, rank: str) -> None:
    vector = DeltaVector.of({"w": np.ones((40, 30), np.float32)})
    data = encode_coded(header, vector, coding=FLOATS)

    assert open_update(with_rank(data, "2"), vector.layout).check_finite() > 0
    with pytest.raises(InvalidUpdateError, match="coding cannot be read: rank"):
        open_update(with_rank(data, rank), vector.layout)


@pytest.mark.parametrize("rank", ["1", "3"])
def test_a_rank_that_was_not_used_is_refused(header: UpdateHeader, rank: str) -> None:
    """The streams are those of rank 2, so for rank 1 they hold too much, and for rank 3 too little."""
    vector = DeltaVector.of({"w": low_rank_matrix(40, 30, rank=2)})
    data = encode_coded(header, vector, coding=FLOATS)

    with pytest.raises(InvalidUpdateError):
        open_update(with_rank(data, rank), vector.layout).check_finite()


def test_reading_holds_one_chunk_and_the_factors(header: UpdateHeader) -> None:
    """A matrix of 64 MiB: a chunk is 4 MiB, and so is the one that is made while it is still held."""
    vector = DeltaVector.of({"w": low_rank_matrix(4096, 4096, rank=1)})
    data = encode_coded(header, vector, coding=Coding(values="float32", rank=1))
    update = open_update(data, vector.layout)

    tracemalloc.start()
    update.check_finite()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 16 * 2**20
