"""delta = local after training - global before, float32, of the kind that was trained."""

import numpy as np
import pytest
import torch

from edgeml_client.errors import ModelMismatchError, NonFiniteError
from edgeml_client.updates import compute_state_dict_delta


def test_torch_gives_torch_and_numpy_gives_numpy_with_the_same_numbers() -> None:
    base = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor(0.5)}
    updated = {"w": torch.tensor([1.5, 1.0]), "b": torch.tensor(0.25)}

    from_torch = compute_state_dict_delta(base, updated)
    from_numpy = compute_state_dict_delta(
        {name: tensor.numpy() for name, tensor in base.items()},
        {name: tensor.numpy() for name, tensor in updated.items()},
    )

    assert isinstance(from_torch["w"], torch.Tensor)
    assert isinstance(from_numpy["w"], np.ndarray)
    assert from_torch["w"].tolist() == from_numpy["w"].tolist() == [0.5, -1.0]
    assert from_torch["b"].shape == from_numpy["b"].shape == ()
    assert float(from_torch["b"]) == float(from_numpy["b"]) == -0.25


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_difference_is_float32_and_exact_for_16_bit_states(dtype: torch.dtype) -> None:
    """3 - 2**-6 has 9 significant bits: subtracting in bfloat16 would round it to 3."""
    base, updated = {"w": torch.tensor([2.0**-6], dtype=dtype)}, {"w": torch.tensor([3.0], dtype=dtype)}

    delta = compute_state_dict_delta(base, updated)

    assert delta["w"].dtype == torch.float32
    assert delta["w"].item() == 3 - 2.0**-6


def test_float64_states_are_subtracted_in_float64() -> None:
    """1 + 1e-9 - 1 is 0 in float32."""
    delta = compute_state_dict_delta({"w": np.array([1.0])}, {"w": np.array([1.0 + 1e-9])})

    assert delta["w"].dtype == np.float32
    assert delta["w"][0] == pytest.approx(1e-9, rel=1e-6)


def test_counters_and_masks_are_left_out() -> None:
    base = {"w": np.ones(1), "steps": np.array(3), "mask": np.array([True])}

    delta = compute_state_dict_delta(base, {**base, "steps": np.array(9)})

    assert set(delta) == {"w"}


def test_non_contiguous_read_only_empty_and_trained_arrays_are_fine() -> None:
    frozen = np.arange(6, dtype=np.float32).reshape(2, 3)
    frozen.flags.writeable = False
    base = {"t": torch.arange(6.0).reshape(2, 3).t(), "f": frozen, "e": np.empty((0, 4), np.float32)}
    updated = {
        "t": torch.nn.Parameter(torch.arange(6.0).reshape(2, 3).t() + 1),
        "f": frozen[::-1][::-1],
        "e": np.empty((0, 4), np.float32),
    }

    delta = compute_state_dict_delta(base, updated)

    assert delta["t"].tolist() == [[1, 1], [1, 1], [1, 1]]
    assert not delta["t"].requires_grad
    assert delta["f"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert delta["e"].shape == (0, 4)


def test_tied_tensors_appear_under_each_of_their_names() -> None:
    encoder = torch.nn.Embedding(3, 2)
    decoder = torch.nn.Linear(2, 3, bias=False)
    decoder.weight = encoder.weight
    model = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        encoder.weight += 1

    delta = compute_state_dict_delta(base, model.state_dict())

    assert set(delta) == {"encoder.weight", "decoder.weight"}
    assert torch.equal(delta["encoder.weight"], delta["decoder.weight"])


def test_the_result_shares_no_memory_with_the_states() -> None:
    base, updated = {"w": np.zeros(2, np.float32)}, {"w": np.ones(2, np.float32)}

    compute_state_dict_delta(base, updated)["w"][:] = 9

    assert base["w"].tolist() == [0, 0]
    assert updated["w"].tolist() == [1, 1]


def test_missing_extra_and_misshapen_arrays_are_listed_together() -> None:
    base = {"a": np.ones(1), "b": np.ones(2)}

    with pytest.raises(ModelMismatchError) as caught:
        compute_state_dict_delta(base, {"b": np.ones(3), "c": np.ones(4)})

    assert caught.value.problems == (
        "missing a: F64[1]",
        "b: expected shape [2], got [3]",
        "unexpected c: F64[4]",
    )


def test_an_array_may_not_change_between_floating_and_integer() -> None:
    with pytest.raises(ModelMismatchError, match="between floating and integer"):
        compute_state_dict_delta({"w": np.ones(2)}, {"w": np.ones(2, np.int64)})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_array_is_named(bad: float) -> None:
    base = {"fine": np.ones(2, np.float32), "body.1.weight": np.ones(2, np.float32)}

    with pytest.raises(NonFiniteError, match=r"'body\.1\.weight'") as caught:
        compute_state_dict_delta(base, {**base, "body.1.weight": np.array([1, bad], np.float32)})

    assert caught.value.array_name == "body.1.weight"


def test_a_float64_difference_beyond_float32_counts_as_diverged() -> None:
    with pytest.raises(NonFiniteError):
        compute_state_dict_delta({"w": np.array([0.0])}, {"w": np.array([1e300])})
