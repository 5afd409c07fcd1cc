"""A streamed delta has the numbers of a delta that was computed at once, whatever the arrays are like."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml_client.errors import ModelMismatchError, NonFiniteError
from edgeml_client.updates import DeltaVector, StreamedDelta, compute_state_dict_delta
from edgeml_client.updates.vector import BLOCK

State = dict[str, Any]


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda a: a,
    "float64": lambda a: a.astype(np.float64),
    "float16": lambda a: a.astype(np.float16),
    "other byte order": lambda a: a.astype(">f4"),
    "every second": lambda a: np.repeat(a, 2, axis=0)[::2],
    "transposed": np.asfortranarray,
    "backwards": lambda a: a[::-1],
    "read-only": read_only,
    "torch float32": torch.from_numpy,
    "torch bfloat16": lambda a: torch.from_numpy(a).bfloat16(),
    "torch float16": lambda a: torch.from_numpy(a).half(),
    "torch float64": lambda a: torch.from_numpy(a).double(),
    "torch transposed": lambda a: torch.from_numpy(a.T.copy()).T,
    "torch parameter": lambda a: torch.nn.Parameter(torch.from_numpy(a)),
    "torch negated": lambda a: torch._neg_view(torch.from_numpy(a)),  # what autograd makes
}


@pytest.mark.parametrize("after", FORMS)
@pytest.mark.parametrize("before", ["float32", "float64", "transposed", "torch bfloat16"])
def test_it_is_the_delta_whatever_form_the_arrays_have(before: str, after: str) -> None:
    base: State = {"w": FORMS[before](numbers((70, 30))), "steps": np.array(3)}
    updated: State = {"w": FORMS[after](numbers((70, 30), seed=1)), "steps": np.array(9)}

    streamed = StreamedDelta.between(base, updated)

    expected = np.asarray(compute_state_dict_delta(base, updated)["w"])
    vector, norm = streamed.vector()
    assert streamed.layout.names == ("w",)
    np.testing.assert_array_equal(vector.views()["w"], expected)
    assert norm == streamed.norm() == vector.norm()


@pytest.mark.parametrize("form", FORMS)
def test_arrays_at_hand_are_read_as_they_are(form: str) -> None:
    array = FORMS[form](numbers((7, 3)))

    vector, _ = StreamedDelta.of({"w": array}).vector()

    np.testing.assert_array_equal(vector.values, DeltaVector.of({"w": array}).values)


sizes = st.lists(st.sampled_from([0, 1, 2, 50, BLOCK - 1, BLOCK, BLOCK + 1]), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(sizes, st.data())
def test_any_stretch_can_be_read(some_sizes: list[int], data: st.DataObject) -> None:
    """Array ``n`` counts on from where array ``n - 1`` ended, so position ``i`` holds ``i``."""
    ends = np.cumsum(some_sizes)
    arrays = {
        f"{n}": np.arange(end - size, end, dtype=np.float32)
        for n, (size, end) in enumerate(zip(some_sizes, ends, strict=True))
    }
    start = data.draw(st.integers(0, int(ends[-1])))
    target = np.empty(data.draw(st.integers(0, int(ends[-1]) - start)), np.float32)

    StreamedDelta.of(arrays).read_into(target, start=start)

    np.testing.assert_array_equal(target, np.arange(start, start + target.size))


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"steps": np.array(3), "mask": np.array([True, False])},
        {"empty": np.zeros((0, 4), np.float32)},
        {"scalar": np.float32(2.0), "number": 2.0, "tensor": torch.tensor(2.0)},
        {"one": np.ones(1, np.float32)},
    ],
)
def test_states_of_next_to_nothing(state: State) -> None:
    """Each floating number becomes 0: that the state minus itself is."""
    vector, norm = StreamedDelta.between(state, state).vector()

    assert norm == 0.0
    assert vector.values.tolist() == [0.0] * vector.layout.size
    assert "steps" not in vector.layout.names


def test_tied_arrays_count_under_each_of_their_names() -> None:
    tied = torch.zeros(2)

    delta = StreamedDelta.between({"a": tied, "b": tied}, {"a": tied + 3, "b": tied + 3})

    assert delta.norm() == 6.0  # sqrt(4 * 9)


def test_nothing_is_computed_before_it_is_read() -> None:
    """8 MiB are subtracted in a quarter of a MiB, and as much again for the sum in float64, twice."""
    base = {"w": np.zeros(1 << 21, np.float32)}
    updated = {"w": np.ones(1 << 21, np.float32)}
    tracemalloc.start()

    norm = StreamedDelta.between(base, updated).norm()

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert norm == pytest.approx(2**10.5, rel=1e-12)
    assert peak < 2**20 + 2**16


def test_ten_thousand_arrays_are_not_slow() -> None:
    """Ten microseconds an array would still be 100 ms; what other processes take does not count."""
    state = {f"layer.{n}.bias": np.full(8, n, np.float32) for n in range(10_000)}
    delta = StreamedDelta.between(state, state)

    start_s = time.process_time()
    delta.norm()

    assert time.process_time() - start_s < 0.5


@pytest.mark.parametrize(("before", "after"), [(3e38, -3e38), (np.inf, np.inf), (0.0, np.nan)])
def test_a_difference_that_is_not_finite_is_named(before: float, after: float) -> None:
    base = {"a": np.zeros(3, np.float32), "b": np.array([0, before], np.float32)}
    updated = {"a": np.zeros(3, np.float32), "b": np.array([0, after], np.float32)}

    for read in (StreamedDelta.norm, StreamedDelta.vector):
        with pytest.raises(NonFiniteError, match="'b'"):
            read(StreamedDelta.between(base, updated))


def test_states_of_different_models_are_refused() -> None:
    with pytest.raises(ModelMismatchError, match="missing w"):
        StreamedDelta.between({"w": np.ones(2)}, {"v": np.ones(2)})
    with pytest.raises(ModelMismatchError, match="between floating and integer"):
        StreamedDelta.between({"w": np.ones(2)}, {"w": np.ones(2, np.int64)})
