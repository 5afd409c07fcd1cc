"""What an optimizer remembers of a parameter is kept by the parameter's name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adagrad, Adam, Optimizer, RMSprop

from edgeml_lightning.naming import parameter_names
from edgeml_lightning.personalization.optimizer_state import (
    OptimizerState,
    named_optimizer_state,
    restore_optimizer_state_,
)


def step(model: nn.Module, optimizer: Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(1, 2)).square().sum().backward()
    optimizer.step()


def model_and_optimizer(
    make: Callable[..., Optimizer], *, reverse: bool = False
) -> tuple[nn.Module, Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    parameters = list(model.parameters())
    return model, make(reversed(parameters) if reverse else parameters)


@pytest.mark.parametrize(
    "make",
    [
        lambda params: SGD(params, lr=0.1, momentum=0.9),
        lambda params: Adam(params, lr=0.1),
        lambda params: Adam(params, lr=0.1, fused=True),
    ],
    ids=["momentum", "adam", "fused adam"],
)
def test_training_goes_on_as_if_it_had_not_stopped(make: Callable[..., Optimizer]) -> None:
    """Two steps, a stop, and one step are three steps, whatever the order of the parameters."""
    model, optimizer = model_and_optimizer(make)
    step(model, optimizer)
    step(model, optimizer)
    kept = named_optimizer_state([optimizer], parameter_names(model))
    again, fresh = model_and_optimizer(make, reverse=True)
    again.load_state_dict(model.state_dict())

    restore_optimizer_state_([fresh], parameter_names(again), kept)
    step(model, optimizer)
    step(again, fresh)

    for ours, theirs in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_only_named_parameters_are_kept() -> None:
    model, optimizer = model_and_optimizer(lambda params: SGD(params, lr=0.1, momentum=0.9))
    step(model, optimizer)
    head = {param: name for param, name in parameter_names(model).items() if name.startswith("1.")}

    kept = named_optimizer_state([optimizer], head)

    assert sorted(kept.tensors) == ["1.bias//momentum_buffer", "1.weight//momentum_buffer"]


def test_the_copy_does_not_follow_the_optimizer() -> None:
    model, optimizer = model_and_optimizer(lambda params: SGD(params, lr=0.1, momentum=0.9))
    step(model, optimizer)
    kept = named_optimizer_state([optimizer], parameter_names(model))
    before = kept.tensors["0.weight//momentum_buffer"].clone()

    step(model, optimizer)

    assert torch.equal(kept.tensors["0.weight//momentum_buffer"], before)


def test_numbers_are_kept_beside_tensors() -> None:
    model, optimizer = model_and_optimizer(lambda params: SGD(params, lr=0.1))
    weight = next(iter(model.parameters()))
    optimizer.state[weight] = {"step": 3, "scale": torch.tensor(2.0)}

    kept = named_optimizer_state([optimizer], parameter_names(model))
    restore_optimizer_state_([optimizer], parameter_names(model), kept)

    assert kept.numbers == {"0.weight//step": 3}
    assert set(optimizer.state[weight]) == {"step", "scale"}


MOMENTUM = lambda params: SGD(params, lr=0.1, momentum=0.9)  # noqa: E731
ADAM = lambda params: Adam(params, lr=0.1)  # noqa: E731


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (MOMENTUM, ADAM),
        (ADAM, MOMENTUM),
        (ADAM, lambda params: Adam(params, lr=0.1, amsgrad=True)),
        (RMSprop, lambda params: RMSprop(params, centered=True)),
        (RMSprop, lambda params: RMSprop(params, momentum=0.9)),
        (MOMENTUM, Adagrad),
    ],
    ids=["to adam", "to sgd", "to amsgrad", "to centered", "to momentum", "to adagrad"],
)
def test_the_memory_of_another_kind_of_optimizer_is_left_and_one_warning_says_so(
    before: Callable[..., Optimizer], now: Callable[..., Optimizer], caplog: pytest.LogCaptureFixture
) -> None:
    """A step of the new optimizer is the one that it takes without any memory."""
    model, optimizer = model_and_optimizer(before)
    step(model, optimizer)
    kept = named_optimizer_state([optimizer], parameter_names(model))
    ours, changed = model_and_optimizer(now)
    theirs, fresh = model_and_optimizer(now)

    restore_optimizer_state_([changed], parameter_names(ours), kept)
    step(ours, changed)
    step(theirs, fresh)

    assert all(map(torch.equal, ours.parameters(), theirs.parameters()))
    assert [record.message.endswith("starts anew") for record in caplog.records] == [True]


def test_the_memories_of_two_models_are_one_that_can_be_divided_again() -> None:
    mine = OptimizerState({"w//exp_avg": torch.ones(2)}, {"w//step": 1.0}, {"w": "Adam"})
    others = OptimizerState({"w//exp_avg": torch.zeros(2)}, {"w//step": 2.0}, {"w": "SGD"})

    both = mine.joined_with(others, prefix="personal/")

    assert both.numbers == {"w//step": 1.0, "personal/w//step": 2.0}
    assert both.divided("personal/") == (others, mine)


def test_an_optimizer_that_remembers_in_lists_starts_anew() -> None:
    """Half of the memory of LBFGS would be taken for a whole one, and end in an error in the next step."""
    model, optimizer = model_and_optimizer(lambda params: LBFGS(params, lr=0.1))
    closed(model, optimizer)
    kept = named_optimizer_state([optimizer], parameter_names(model))
    again, fresh = model_and_optimizer(lambda params: LBFGS(params, lr=0.1))

    restore_optimizer_state_([fresh], parameter_names(again), kept)
    closed(again, fresh)

    assert (kept.tensors, kept.numbers, kept.kinds) == ({}, {}, {})


def closed(model: nn.Module, optimizer: Optimizer) -> None:
    """Take a step of an optimizer that evaluates the loss itself."""

    def loss() -> float:
        optimizer.zero_grad()
        value = model(torch.ones(1, 2)).square().sum()
        value.backward()
        return value.item()

    optimizer.step(loss)
