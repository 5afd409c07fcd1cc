"""Whatever arrives, a decoder answers with a clear error, and spends no more memory than the model takes."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml_client.errors import InvalidModelError, InvalidUpdateError, ModelMismatchError
from edgeml_client.updates import GlobalModel, encode_model, encode_update, layout_of, open_update
from edgeml_client.updates.torch_format import dumps_state_dict, loads_state_dict
from tests.envelopes import envelope

STATE = {
    "body.weight": np.ones((4, 3), np.float32),
    "head.bias": np.ones(3, np.float16),
    "steps": np.array(1),
}
LAYOUT = layout_of(STATE)
HEADER = envelope()
UPDATE = encode_update(HEADER, {name: STATE[name] for name in LAYOUT.floating.names})
MODEL = encode_model(STATE)
SAVED = dumps_state_dict(STATE)
SOME = settings(max_examples=max(300, settings.default.max_examples))


def _damaged(data: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    damaged = bytearray(data)
    for position, value in edits:
        damaged[position % len(damaged)] = value
    return bytes(damaged[: len(damaged) - cut])


edits = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6)
cuts = st.one_of(st.just(0), st.integers(0, 200))


def _check_update(data: bytes) -> None:
    try:
        update = open_update(data, LAYOUT)
        for _, array in update.arrays():
            assert array.dtype == np.float32
        update.check_finite()
    except (InvalidUpdateError, ModelMismatchError):
        return
    assert update.layout.names == LAYOUT.floating.without(update.header.private).names


def _check_model(data: bytes) -> None:
    try:
        model = GlobalModel(data)
    except InvalidModelError:
        return
    assert model.layout.num_bytes <= len(data)
    assert set(model.numpy_arrays()) == set(model.layout.names)


@SOME
@given(edits=edits, cut=cuts)
def test_a_damaged_update_is_refused_or_is_a_whole_update(edits: list[tuple[int, int]], cut: int) -> None:
    _check_update(_damaged(UPDATE, edits, cut))


@SOME
@given(edits=edits, cut=cuts)
def test_a_damaged_model_is_refused_or_is_a_whole_model(edits: list[tuple[int, int]], cut: int) -> None:
    _check_model(_damaged(MODEL, edits, cut))


@SOME
@given(edits=edits, cut=cuts)
def test_a_damaged_torch_file_is_refused_or_is_a_state_dict(edits: list[tuple[int, int]], cut: int) -> None:
    try:
        state = loads_state_dict(_damaged(SAVED, edits, cut), max_bytes=100_000)
    except (InvalidModelError, ModelMismatchError):
        return
    assert sum(tensor.numel() * tensor.element_size() for tensor in state.values()) <= 100_000


json_values = st.sampled_from(
    [None, True, -1, 2**70, 0.5, "", "F32", [], [[]], [1, "a"], {}, {"dtype": "F32"}]
)
described = st.fixed_dictionaries({
    "dtype": st.sampled_from(["F32", "F16", "I64", "BOOL", "F8_E4M3"]) | json_values,
    "shape": st.lists(st.integers(-1, 2**63), max_size=4) | json_values,
    "data_offsets": st.lists(st.integers(0, 2**63), min_size=2, max_size=2) | json_values,
})  # fmt: skip


@SOME
@given(
    header=st.dictionaries(
        st.sampled_from([*STATE, "__metadata__", "x"]), described | json_values, max_size=4
    ),
    body=st.binary(max_size=64),
)
def test_any_header_is_refused_or_consistent(header: dict[str, Any], body: bytes) -> None:
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + body

    _check_update(data)
    _check_model(data)


@pytest.mark.parametrize("shape", [[2**40], [2**20, 2**20], [2**46]])
def test_a_header_that_claims_terabytes_costs_no_memory(shape: list[int]) -> None:
    claimed = 4 * int(np.prod(shape))
    header = {"body.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, claimed]}}
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text

    tracemalloc.start()
    with pytest.raises(InvalidUpdateError, match="the file has"):
        open_update(data, LAYOUT)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak_bytes < 1_000_000
