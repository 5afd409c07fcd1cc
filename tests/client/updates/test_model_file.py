"""A model travels as one safetensors file in its true dtypes."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from edgeml_client.errors import InvalidModelError, ModelMismatchError
from edgeml_client.updates import GlobalModel, digest_of, encode_model, layout_of


def _torch_state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(3, 4, generator=generator)
    return {
        "body.weight": wide,
        "body.double": wide.double(),
        "body.half": wide.half(),
        "body.brain": wide.bfloat16(),
        "body.transposed": wide.t(),
        "norm.num_batches_tracked": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "bytes": torch.tensor([1, 2], dtype=torch.uint8),
        "empty": torch.empty(0, 3),
        "learned": torch.nn.Parameter(torch.ones(2)),
    }


def test_a_file_holds_every_array_in_its_own_dtype() -> None:
    state = _torch_state()

    read_by_others = safetensors.torch.load(encode_model(state))

    assert set(read_by_others) == set(state)
    for name, tensor in state.items():
        assert read_by_others[name].dtype == tensor.dtype, name
        assert torch.equal(read_by_others[name], tensor.detach()), name


def test_torch_tensors_come_back_as_they_went() -> None:
    state = _torch_state()

    received = GlobalModel(encode_model(state)).torch_tensors()

    for name, tensor in state.items():
        assert received[name].dtype == tensor.dtype, name
        assert torch.equal(received[name], tensor.detach()), name


def test_numpy_and_torch_give_the_same_file() -> None:
    state = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3), "flag": torch.tensor([True])}

    assert encode_model(state) == encode_model({name: tensor.numpy() for name, tensor in state.items()})


def test_the_order_of_a_state_dict_does_not_change_its_file() -> None:
    state = _torch_state()

    assert encode_model(dict(reversed(state.items()))) == encode_model(state)


def test_numpy_has_no_bfloat16_so_it_comes_as_float32() -> None:
    """BF16 keeps 8 bits: 1 + 2**-7 is exact, 1 + 2**-8 lies halfway and goes to the even 1."""
    model = GlobalModel(encode_model({"w": torch.tensor([1 + 2**-7, 1 + 2**-8]).bfloat16()}))

    array = model.numpy_arrays()["w"]

    assert array.dtype == np.float32
    assert array.tolist() == [1 + 2**-7, 1.0]


def test_float32_is_written_as_bfloat16_the_way_torch_rounds() -> None:
    numbers = np.concatenate([
        np.random.default_rng(0).standard_normal(1000).astype(np.float32),
        np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-45], np.float32),
    ])  # fmt: skip
    layout = layout_of({"w": torch.zeros(numbers.size, dtype=torch.bfloat16)})

    written = GlobalModel(encode_model({"w": numbers}, layout=layout)).torch_tensors()["w"]

    expected = torch.from_numpy(numbers).bfloat16()
    assert torch.equal(written.isnan(), expected.isnan())
    assert torch.equal(written.nan_to_num(5.0), expected.nan_to_num(5.0))


def test_a_state_can_be_written_in_the_dtypes_of_a_registered_model() -> None:
    layout = layout_of({"w": np.zeros(2, np.float16)})

    model = GlobalModel(encode_model({"w": np.array([1.0, 2.0])}, layout=layout))

    assert model.layout == layout
    with pytest.raises(ModelMismatchError, match="unexpected v"):
        encode_model({"w": np.ones(2), "v": np.ones(1)}, layout=layout)


def test_the_digest_is_that_of_the_file() -> None:
    data = encode_model({"w": np.ones(3)})

    assert GlobalModel(data).digest == f"sha256:{hashlib.sha256(data).hexdigest()}" == digest_of(data)
    GlobalModel(data).require_digest(None)
    with pytest.raises(InvalidModelError, match="download it again"):
        GlobalModel(data, version="3").require_digest("sha256:00")


def test_each_state_is_fresh_and_writable() -> None:
    model = GlobalModel(encode_model({"w": np.ones(2, np.float32)}))

    model.numpy_arrays()["w"][:] = 9
    model.torch_tensors()["w"].fill_(9)

    assert model.numpy_arrays()["w"].tolist() == [1, 1]
    assert model.torch_tensors()["w"].tolist() == [1, 1]
    assert not model.array("w").flags.writeable


def test_auto_is_torch_in_a_program_that_uses_torch() -> None:
    model = GlobalModel(encode_model({"w": np.ones(2, np.float32)}))

    assert isinstance(model.state()["w"], torch.Tensor)
    assert isinstance(model.state("numpy")["w"], np.ndarray)


def test_scalars_big_endian_and_read_only_arrays_are_fine() -> None:
    frozen = np.ones(2, np.float32)
    frozen.flags.writeable = False
    state = {"big": np.array([1.5, 2.5], ">f4"), "scalar": np.float64(2.0), "frozen": frozen, "plain": 3}

    received = GlobalModel(encode_model(state)).numpy_arrays()

    assert received["big"].tolist() == [1.5, 2.5]
    assert received["scalar"].shape == ()
    assert received["plain"].dtype == np.int64


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "w: str"),
        (None, "w: NoneType"),
        (np.array(["a"]), "w: str"),
        (np.zeros(2, complex), "w: complex128"),
        (np.array([object()]), "w: object"),
        (torch.zeros(2, 2).to_sparse(), "sparse"),
    ],
)
def test_what_is_no_dense_array_of_numbers_is_refused(value: object, message: str) -> None:
    with pytest.raises(ModelMismatchError, match=message):
        encode_model({"w": value})


def test_files_written_by_others_are_read() -> None:
    arrays = {"w": np.arange(3, dtype=np.float32), "b": np.array([True])}

    model = GlobalModel(safetensors.numpy.save(arrays, metadata={"framework": "x"}))

    assert model.numpy_arrays()["w"].tolist() == [0, 1, 2]
    assert repr(model) == f"GlobalModel(version='', arrays=2, bytes={len(model.data)})"
