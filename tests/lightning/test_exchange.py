"""Modules give and take named arrays without losing their parameters' identity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from edgeml_client.errors import ModelMismatchError
from edgeml_client.updates import StreamedDelta
from edgeml_lightning.exchange import check_matches, clone_arrays, load_global_, model_state


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.compile(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), backend="eager")
        self.head = nn.Linear(2, 2)
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.head.weight
        self.accuracy = MulticlassAccuracy(2)
        self.accuracy.persistent(mode=True)
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


def test_names_are_canonical_and_metrics_are_no_part_of_the_model() -> None:
    assert sorted(model_state(Net())) == [
        "body.0.bias",
        "body.0.weight",
        "body.1.bias",
        "body.1.num_batches_tracked",
        "body.1.running_mean",
        "body.1.running_var",
        "body.1.weight",
        "head.bias",
        "head.weight",
        "tied.bias",
        "tied.weight",
    ]


def test_a_metric_alone_is_no_model() -> None:
    assert model_state(MeanMetric()) == {}


def test_loading_keeps_the_parameters_an_optimizer_holds() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [id(param) for param in model.parameters()]

    load_global_(model, {name: torch.full_like(value, 2) for name, value in model_state(model).items()})

    assert [id(param) for param in model.parameters()] == before
    assert optimizer.param_groups[0]["params"][0] is next(iter(model.parameters()))
    assert all((value == 2).all() for value in model_state(model).values())
    assert model.tied.weight is model.head.weight


def test_loading_a_part_leaves_the_rest() -> None:
    model = Net()
    bias = model.head.bias.detach().clone()

    load_global_(model, {"head.weight": torch.zeros(2, 2)})

    assert not model.head.weight.any()
    assert torch.equal(model.head.bias, bias)


def test_loading_what_does_not_fit_changes_nothing_and_lists_it() -> None:
    model = Net()
    weight = model.head.weight.detach().clone()

    with pytest.raises(ModelMismatchError) as caught:
        load_global_(
            model, {"head.weight": torch.zeros(2, 2), "head.bias": torch.zeros(3), "x": torch.zeros(1)}
        )

    assert caught.value.problems == ("x: absent from the module", "head.bias: [2] in the module, [3] given")
    assert torch.equal(model.head.weight, weight)


def test_every_difference_to_the_global_model_is_listed() -> None:
    state = {"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(1), "head": torch.zeros(5)}
    arrays = {"b": torch.zeros(3), "c": torch.zeros(1, dtype=torch.int64), "d": torch.zeros(1)}
    arrays["head"] = torch.zeros(7)

    with pytest.raises(ModelMismatchError) as caught:
        check_matches(state, arrays, received=["a", "b", "c"], kept=["head"])

    assert caught.value.problems == (
        "a: absent from the global model",
        "d: absent from the module",
        "b: [2] in the module, [3] globally",
        "c: torch.float32 in the module, torch.int64 globally",
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_to_the_modules_dtype_is_no_change(dtype: torch.dtype) -> None:
    """A global 0.1 is not 0.1 in bfloat16; untouched parameters still have a delta of exactly zero."""
    model = nn.Linear(2, 2).to(dtype)
    load_global_(model, {"weight": torch.full((2, 2), 0.1), "bias": torch.full((2,), 0.1)})
    reference = clone_arrays(model_state(model), ["bias", "weight"])
    with torch.no_grad():
        model.bias += 0.5

    delta = StreamedDelta.between(reference, model_state(model)).vector()[0].views()

    assert delta["weight"].dtype == np.float32
    assert not delta["weight"].any()
    assert delta["bias"].tolist() == pytest.approx([0.5, 0.5], rel=1e-2)


def test_float64_differences_are_taken_before_rounding() -> None:
    """1 + 2^-40 and 1 are one number in float32, their difference is not zero."""
    reference = {"w": torch.ones(1, dtype=torch.float64)}
    state = {"w": torch.ones(1, dtype=torch.float64) + 2**-40}

    assert StreamedDelta.between(reference, state).vector()[0].views()["w"].item() == 2**-40


def test_the_reference_does_not_follow_the_module() -> None:
    model = nn.Linear(1, 1)
    reference = clone_arrays(model_state(model), ["weight"])
    before = reference["weight"].item()

    with torch.no_grad():
        model.weight.add_(1.0)

    assert reference["weight"].item() == before


def test_a_module_without_arrays_has_an_empty_state() -> None:
    assert model_state(nn.Sequential(nn.ReLU())) == {}
