"""The torch-saved form is read only if it is a plain state dict of modest size."""

import io
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client.errors import InvalidModelError, ModelMismatchError
from edgeml_client.updates.torch_format import dumps_state_dict, loads_state_dict

LIMIT = 1_000_000


def _saved(value: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _repacked(data: bytes, change: Callable[[str, bytes], bytes | None], **options: Any) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", **options) as new:
        for entry in old.infolist():
            content = change(entry.filename, old.read(entry))
            if content is not None:
                new.writestr(entry.filename, content)
    return packed.getvalue()


def test_a_state_dict_comes_back_as_it_went() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).to(torch.bfloat16)
    state = module.state_dict()

    received = loads_state_dict(_saved(state), max_bytes=LIMIT)

    assert list(received) == list(state)
    assert all(torch.equal(received[name], state[name]) for name in state)
    assert received["0.weight"].dtype == torch.bfloat16


def test_ordered_dicts_parameters_views_and_every_dtype_are_state_dicts() -> None:
    wide = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(
        parameter=torch.nn.Parameter(wide),
        view=wide[:, 1],
        transposed=wide.t(),
        scalar=torch.tensor(3),
        empty=torch.empty(0),
        unsigned=torch.tensor([1], dtype=torch.uint16),
        mask=torch.tensor([True]),
    )

    received = loads_state_dict(_saved(state), max_bytes=LIMIT)

    assert all(torch.equal(received[name], state[name]) for name in state)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in received.values())


def test_numpy_arrays_are_written_as_tensors() -> None:
    frozen = np.ones((2, 2), np.float32).T
    frozen.flags.writeable = False

    received = loads_state_dict(dumps_state_dict({"w": frozen, "n": np.array(3)}), max_bytes=LIMIT)

    assert received["w"].tolist() == [[1, 1], [1, 1]]
    assert received["n"].dtype == torch.int64


def test_a_view_is_written_without_the_rest_of_its_storage() -> None:
    view = torch.zeros(100_000)[:2]

    assert len(dumps_state_dict({"w": view})) < 5_000
    with pytest.raises(ModelMismatchError):
        dumps_state_dict({"w": "text"})


@pytest.mark.parametrize(
    "value",
    [
        torch.nn.Linear(2, 2),
        {"w": np.ones(2)},
        {"config": bytearray(8), "w": torch.ones(1)},
        {"w": torch.ones(2, 2).to_sparse()},
        {"w": torch.nn.Linear(2, 2)},
    ],
    ids=["module", "numpy", "bytearray", "sparse", "module inside"],
)
def test_a_pickle_that_refers_to_anything_else_is_not_run(value: object) -> None:
    with pytest.raises(InvalidModelError, match=r"refers to .* save model\.state_dict\(\)"):
        loads_state_dict(_saved(value), max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([torch.ones(1)], "holds a list"),
        (torch.ones(1), "holds a Tensor"),
        ({"state_dict": {"w": torch.ones(1)}}, "'state_dict' is a dict"),
        ({1: torch.ones(1)}, "'1' is a Tensor"),
        ({"w": torch.ones(1), "epoch": 3}, "'epoch' is a int"),
    ],
)
def test_what_is_no_flat_state_dict_is_refused(value: object, message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        loads_state_dict(_saved(value), max_bytes=LIMIT)


def test_a_file_over_the_limit_is_refused_by_its_length() -> None:
    with pytest.raises(InvalidModelError, match="at most 1000 are accepted"):
        loads_state_dict(_saved({"w": torch.ones(1000)}), max_bytes=1000)


def test_a_tensor_that_repeats_its_storage_may_not_unfold_beyond_the_limit() -> None:
    """One stored number, expanded to a million: 4 MB from a file of about 1 kB."""
    data = _saved({"w": torch.zeros(1).expand(1000, 1000)})

    with pytest.raises(InvalidModelError, match="claim more bytes"):
        loads_state_dict(data, max_bytes=LIMIT)


def test_a_compressed_file_is_refused_before_it_is_unpacked() -> None:
    data = _repacked(
        _saved({"w": torch.zeros(100)}), lambda _, content: content, compression=zipfile.ZIP_DEFLATED
    )

    with pytest.raises(InvalidModelError, match="stored uncompressed"):
        loads_state_dict(data, max_bytes=LIMIT)


@pytest.mark.parametrize("extra", [1, 100_000_000])
def test_a_storage_smaller_than_its_tensor_is_refused(extra: int) -> None:
    """The pickle says float32 x 4; the entry holds ever less than that."""
    size = max(0, 16 - extra)
    data = _repacked(
        _saved({"w": torch.ones(4)}),
        lambda name, content: content[:size] if name.endswith("/data/0") else content,
    )

    with pytest.raises(InvalidModelError):
        loads_state_dict(data, max_bytes=LIMIT)


def test_a_pickle_that_claims_more_numbers_than_are_stored_is_refused() -> None:
    def claim(name: str, content: bytes) -> bytes:
        if not name.endswith("/data.pkl"):
            return content
        return content.replace(b"K\x04t", b"M" + struct.pack("<H", 4000) + b"t")

    with pytest.raises(InvalidModelError):
        loads_state_dict(_repacked(_saved({"w": torch.ones(4)}), claim), max_bytes=LIMIT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"PK\x03\x04" + b"\x00" * 100,
        _saved({"w": torch.ones(2)})[:-30],
        _repacked(
            _saved({"w": torch.ones(2)}), lambda name, content: None if name.endswith(".pkl") else content
        ),
        _repacked(_saved({"w": torch.ones(2)}), lambda name, c: c[:20] if name.endswith(".pkl") else c),
        _repacked(_saved({"w": torch.ones(2)}), lambda name, c: b"\xff" * 9 if name.endswith(".pkl") else c),
        _repacked(_saved({"w": torch.ones(2)}), lambda name, c: None if "/data/" in name else c),
    ],
)
def test_a_broken_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidModelError):
        loads_state_dict(data, max_bytes=LIMIT)


def test_a_legacy_pickle_stream_is_refused() -> None:
    stream = io.BytesIO()
    torch.save({"w": torch.ones(2)}, stream, _use_new_zipfile_serialization=False)

    with pytest.raises(InvalidModelError, match="the zip form"):
        loads_state_dict(stream.getvalue(), max_bytes=LIMIT)


def test_where_torch_is_absent_the_error_says_what_to_install() -> None:
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
from edgeml_client.errors import MissingExtraError
from edgeml_client.updates import GlobalModel, encode_model
from edgeml_client.updates.torch_format import dumps_state_dict, loads_state_dict
model = GlobalModel(encode_model({"w": np.ones(2)}))
for attempt in (
    lambda: loads_state_dict(b"", max_bytes=1), lambda: dumps_state_dict({}), lambda: model.torch_tensors(),
):
    try:
        attempt()
    except MissingExtraError as exc:
        print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.count("pip install 'edgeml-lightning[lightning]'") == 3, done.stderr
