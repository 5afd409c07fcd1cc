"""A layout is names, shapes and dtypes, whatever wrote the file."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from edgeml_client.errors import InvalidModelError, ModelMismatchError
from edgeml_client.updates import ArraySpec, Layout


def _layout(*specs: ArraySpec) -> Layout:
    return Layout.of(specs)


def test_arrays_are_ordered_by_name() -> None:
    layout = _layout(ArraySpec("b", (2,), "F32"), ArraySpec("a", (), "I64"))

    assert layout.names == ("a", "b")
    assert layout["b"].shape == (2,)
    assert "c" not in layout


def test_sizes_are_counted_in_elements_and_in_bytes() -> None:
    """2*3 float64 (48 bytes) + 1 int64 (8) + 4 bool (4) = 60 bytes; a delta holds 6 float32 = 24 bytes."""
    layout = _layout(
        ArraySpec("w", (2, 3), "F64"), ArraySpec("n", (), "I64"), ArraySpec("mask", (4,), "BOOL")
    )

    assert layout.num_bytes == 60
    assert layout.size == 11
    assert layout.num_delta_bytes == 24
    assert layout.floating.names == ("w",)


def test_the_header_of_a_foreign_safetensors_file_gives_its_layout() -> None:
    data = save({"w": np.zeros((2, 3), np.float16), "n": np.array(1, np.int32)}, metadata={"by": "someone"})

    layout = Layout.from_safetensors_header(data)

    assert list(layout) == [ArraySpec("n", (), "I32"), ArraySpec("w", (2, 3), "F16")]


def test_a_layout_survives_json() -> None:
    layout = _layout(ArraySpec("w", (2, 0), "BF16"), ArraySpec("n", (), "U8"))

    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize("value", [None, {"w": 1}, [{"name": "w", "shape": [1], "dtype": "F8_E4M3"}]])
def test_what_is_no_layout_is_refused(value: object) -> None:
    with pytest.raises(InvalidModelError, match="not a layout"):
        Layout.from_json(value)


def test_a_name_occurs_once() -> None:
    with pytest.raises(InvalidModelError, match="'w' occurs twice"):
        _layout(ArraySpec("w", (1,), "F32"), ArraySpec("w", (2,), "F32"))


def test_every_difference_between_two_layouts_is_listed() -> None:
    mine = _layout(ArraySpec("a", (1,), "F32"), ArraySpec("b", (2,), "F32"), ArraySpec("c", (3,), "F32"))
    other = _layout(ArraySpec("b", (5,), "F32"), ArraySpec("c", (3,), "F16"), ArraySpec("d", (4,), "F32"))

    with pytest.raises(ModelMismatchError) as caught:
        mine.require_same_arrays(other, summary="they differ:")

    assert caught.value.problems == (
        "missing a: F32[1]",
        "b: expected shape [2], got [5]",
        "c: expected dtype F32, got F16",
        "unexpected d: F32[4]",
    )
    assert str(caught.value).startswith("they differ:")


def test_integer_arrays_cannot_become_part_of_an_update() -> None:
    with pytest.raises(ModelMismatchError, match=r"steps: I64\[\]"):
        _layout(ArraySpec("steps", (), "I64"), ArraySpec("w", (1,), "F16")).as_float32()
