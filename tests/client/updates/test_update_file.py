"""An update file is checked against the registered model before its arrays are read."""

import gc
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save

from edgeml_client.errors import InvalidUpdateError, ModelMismatchError, NonFiniteError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import (
    DeltaVector,
    encode_update,
    layout_of,
    max_update_bytes,
    open_update,
    read_update_header,
)
from edgeml_client.updates.update_file import read_arrays

MODEL = {
    "body.weight": np.zeros((2, 3), np.float16),
    "body.steps": np.array(0),
    "head.bias": np.zeros(3, np.float64),
}
LAYOUT = layout_of(MODEL)
DELTA: Mapping[str, Any] = {
    "body.weight": np.arange(6.0).reshape(2, 3),
    "head.bias": np.array([3.0, 4.0, 12.0]),
}


def _header(**changes: Any) -> UpdateHeader:
    fields = {
        "round_id": "r-1",
        "model_id": "m-1",
        "base_version": "3",
        "base_digest": "sha256:00",
        "device_id": "d-1",
        "sample_count": 5,
    }
    return UpdateHeader.model_validate(fields | changes)


def test_an_update_comes_back_as_it_went() -> None:
    header = _header(
        metrics={"loss": 0.5}, filters=({"type": "gradient_clip", "parameters": {"max_norm": 1.0}},)
    )

    update = open_update(encode_update(header, DELTA), LAYOUT)

    assert update.header == header
    arrays = dict(update.arrays())
    assert list(arrays) == ["body.weight", "head.bias"]
    assert arrays["body.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert {array.dtype.str for array in arrays.values()} == {"<f4"}
    assert not arrays["head.bias"].flags.writeable


def test_the_norm_is_taken_over_all_arrays() -> None:
    """0+1+4+9+16+25 = 55 and 9+16+144 = 169; sqrt(224)."""
    update = open_update(encode_update(_header(), DELTA), LAYOUT)

    assert update.check_finite() == pytest.approx(math.sqrt(224), rel=1e-12)


def test_torch_and_numpy_give_the_same_bytes() -> None:
    as_torch = {name: torch.from_numpy(array) for name, array in DELTA.items()}

    assert encode_update(_header(), as_torch) == encode_update(_header(), DELTA)


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_names_may_be_as_long_as_a_header(size: int) -> None:
    """A name of a megabyte, or none at all, is a name."""
    state = {"n" * size: np.ones(2, np.float32)}
    vector = DeltaVector.of(state)

    data = encode_update(_header(), state)

    assert [name for name, _ in open_update(data, vector.layout).arrays()] == ["n" * size]


def test_ten_thousand_arrays_are_one_file() -> None:
    vector = DeltaVector.of({f"layer.{n}.bias": np.full(1, n, np.float32) for n in range(10_000)})

    update = open_update(encode_update(_header(), vector.views()), vector.layout)

    assert dict(update.arrays())["layer.9999.bias"].tolist() == [9999.0]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F64", "F8_E4M3", "F8_E5M2", "I64", "BOOL"])
def test_an_update_in_another_dtype_is_refused_before_it_is_read(dtype: str) -> None:
    """Only float32 travels; of the 8-bit floats, which no model may hold, not even the size is believed."""
    size = {"F64": 8, "I64": 8, "BF16": 2, "F16": 2}.get(dtype, 1)
    entry = {"dtype": dtype, "shape": [4], "data_offsets": [0, 4 * size]}
    metadata = {"edgeml.update": _header().model_dump_json()}
    text = json.dumps({"__metadata__": metadata, "w": entry}).encode()
    data = len(text).to_bytes(8, "little") + text + bytes(4 * size)

    with pytest.raises((InvalidUpdateError, ModelMismatchError), match=dtype):
        open_update(data, DeltaVector.of({"w": np.zeros(4)}).layout)


def test_a_file_is_mapped_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "r-1.update"
    path.write_bytes(encode_update(_header(), DELTA))

    arrays = dict(open_update(path, LAYOUT).arrays())
    gc.collect()

    assert arrays["head.bias"].tolist() == [3, 4, 12]
    assert read_arrays(path)["head.bias"].tolist() == [3, 4, 12]


def test_other_programs_read_it_as_plain_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "r-1.update"
    path.write_bytes(encode_update(_header(), DELTA))

    with safe_open(path, framework="numpy") as file:
        assert UpdateHeader.model_validate_json(file.metadata()["edgeml.update"]).round_id == "r-1"
        assert file.get_tensor("head.bias").tolist() == [3, 4, 12]


def test_private_arrays_stay_away_and_are_listed() -> None:
    header = _header(private=("head.bias",))

    update = open_update(encode_update(header, {"body.weight": DELTA["body.weight"]}), LAYOUT)

    assert update.layout.names == ("body.weight",)
    with pytest.raises(InvalidUpdateError, match=r"must stay on the device.*head\.bias"):
        encode_update(header, DELTA)


@pytest.mark.parametrize(
    ("header", "delta", "message"),
    [
        (_header(), {"body.weight": DELTA["body.weight"]}, r"missing head\.bias: F32\[3\]"),
        (_header(), {**DELTA, "extra": np.ones(1)}, r"unexpected extra: F32\[1\]"),
        (_header(), {**DELTA, "body.steps": np.ones(())}, r"unexpected body\.steps"),
        (_header(), {**DELTA, "head.bias": np.ones(4)}, r"head\.bias: expected shape \[3\], got \[4\]"),
        (_header(private=("tail",)), DELTA, "tail"),
        (_header(private=("body.steps",)), DELTA, r"body\.steps"),
    ],
)
def test_names_and_shapes_must_be_those_of_the_model(header: UpdateHeader, delta: Any, message: str) -> None:
    with pytest.raises(ModelMismatchError, match=message):
        open_update(encode_update(header, delta), LAYOUT)


def test_an_update_shares_at_least_one_array() -> None:
    data = encode_update(_header(private=("body.weight", "head.bias")), {})

    with pytest.raises(InvalidUpdateError, match="must share at least one"):
        open_update(data, LAYOUT)


def test_only_floating_arrays_can_be_written() -> None:
    with pytest.raises(ModelMismatchError, match="floating arrays only"):
        encode_update(_header(), {"steps": np.array(3)})


def test_a_diverged_array_is_neither_written_nor_accepted() -> None:
    with pytest.raises(NonFiniteError, match=r"head\.bias"):
        encode_update(_header(), {**DELTA, "head.bias": np.array([0, np.inf, 0])})

    data = bytearray(encode_update(_header(), DELTA))
    data[-4:] = np.array(np.nan, "<f4").tobytes()
    with pytest.raises(NonFiniteError, match=r"head\.bias"):
        open_update(data, LAYOUT).check_finite()


def test_dtypes_other_than_float32_are_refused() -> None:
    foreign = save(
        {"body.weight": np.zeros((2, 3), np.float16), "head.bias": np.zeros(3, np.float32)},
        metadata={"edgeml.update": _header().model_dump_json()},
    )

    with pytest.raises(ModelMismatchError, match=r"body\.weight: expected dtype F32, got F16"):
        open_update(foreign, LAYOUT)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "must hold 'edgeml.update' alone"),
        ({"edgeml.update": "{}", "more": "x"}, "must hold 'edgeml.update' alone"),
        ({"edgeml.update": "{}"}, "round_id: Field required"),
        ({"edgeml.update": "no json"}, "envelope is wrong"),
        (
            {"edgeml.update": _header().model_dump_json().replace("delta/1", "delta/9")},
            "format: Input should be",
        ),
    ],
)
def test_the_envelope_must_be_one_this_version_knows(metadata: dict[str, str] | None, message: str) -> None:
    data = save({"head.bias": np.zeros(3, np.float32)}, metadata=metadata)

    with pytest.raises(InvalidUpdateError, match=message):
        open_update(data, LAYOUT)
    with pytest.raises(InvalidUpdateError, match=message):
        read_update_header(data)


def test_a_body_longer_than_the_model_allows_is_refused_by_its_length() -> None:
    data = encode_update(_header(), {**DELTA, "big": np.zeros(1_000_000)})

    assert len(data) > max_update_bytes(LAYOUT)
    with pytest.raises(InvalidUpdateError, match="has at most"):
        open_update(data, LAYOUT)


def test_an_empty_file_is_no_update(tmp_path: Path) -> None:
    path = tmp_path / "empty.update"
    path.touch()

    with pytest.raises(InvalidUpdateError, match="empty"):
        open_update(path, LAYOUT)


def test_the_bound_leaves_room_for_every_name_of_the_model() -> None:
    layout = layout_of({f"layer{number:05}" + "x" * 200: np.zeros(1) for number in range(2000)})
    delta = {spec.name: np.zeros(1) for spec in layout}
    header = _header(metrics={f"metric{number}": 0.123456789 for number in range(200)})

    assert len(encode_update(header, delta)) < max_update_bytes(layout)
