"""What a training function returns is checked, and says what is wrong with it."""

import logging
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.rounds import ProximalTerm
from edgeml_client.rounds.local_training import (
    copy_state,
    finite_metrics,
    run_local_training,
    takes_proximal,
)


def _plain(state: dict[str, Any]) -> Any:
    return state, 3, None


def _proximal(state: dict[str, Any], *, proximal: ProximalTerm | None) -> Any:
    return state, 3, {"was_given": float(proximal is not None)}


def _swallowing(state: dict[str, Any], **options: Any) -> Any:
    return state, 3, {f"got_{name}": 1.0 for name in options}


def test_only_a_named_keyword_counts_as_taking_the_proximal_term() -> None:
    assert takes_proximal(_proximal)
    assert not takes_proximal(_plain)
    assert not takes_proximal(_swallowing)
    assert not takes_proximal(dict)


def test_a_function_that_takes_the_term_gets_it_even_when_there_is_none() -> None:
    term = ProximalTerm(anchor={}, strength=0.1)

    assert run_local_training(_proximal, {}, proximal=term).metrics == {"was_given": 1.0}
    assert run_local_training(_proximal, {}).metrics == {"was_given": 0.0}
    assert run_local_training(_swallowing, {}, proximal=term).metrics == {}


def test_the_gradient_of_the_term_is_strength_times_distance() -> None:
    """d/dw of s/2 * |w - a|^2 is s * (w - a): 0.5 * (3 - 1) = 1; autograd agrees."""
    weight = torch.tensor([3.0], requires_grad=True)
    term = ProximalTerm(anchor={"w": torch.tensor([1.0])}, strength=0.5)

    (expected,) = torch.autograd.grad(0.5 / 2 * (weight - term.anchor["w"]).square().sum(), weight)

    assert term.gradient("w", weight.detach()).tolist() == expected.tolist() == [1.0]


@pytest.mark.parametrize("returned", [None, {}, ({}, 1), ({}, 1, None, 4), ([], 1, None), ({}, 1, [])])
def test_a_wrong_form_is_refused(returned: Any) -> None:
    with pytest.raises(InvalidUpdateError, match=r"must return \(state_dict, sample_count, metrics\)"):
        run_local_training(lambda _state: returned, {})


@pytest.mark.parametrize("count", [0, -1, 2.5, "3", None, True, float("nan")])
def test_a_sample_count_is_a_whole_number_above_zero(count: Any) -> None:
    with pytest.raises(InvalidUpdateError, match="sample_count must be a whole number of at least 1"):
        run_local_training(lambda state: (state, count, None), {})


@pytest.mark.parametrize("count", [3, np.int64(3), torch.tensor(3)])
def test_any_integer_type_will_do(count: Any) -> None:
    assert run_local_training(lambda state: (state, count, None), {}).sample_count == 3


def test_metrics_that_are_no_finite_numbers_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    metrics = {
        "loss": np.float32(0.5),
        "acc": torch.tensor(0.25),
        "nan": float("nan"),
        "inf": float("inf"),
        "text": "high",
        "vector": torch.ones(2),
        3: 1,
    }

    with caplog.at_level(logging.WARNING):
        kept = finite_metrics(metrics)  # type: ignore[arg-type]

    assert kept == {"loss": 0.5, "acc": 0.25, "3": 1.0}
    assert [record.args[0] for record in caplog.records if record.args] == ["nan", "inf", "text", "vector"]  # type: ignore[index]


def test_a_copied_state_shares_nothing() -> None:
    state = {"t": torch.nn.Parameter(torch.ones(2)), "n": np.ones(2)}

    copied = copy_state(state)
    copied["t"].fill_(5)
    copied["n"][:] = 5

    assert state["t"].tolist() == [1, 1]
    assert state["n"].tolist() == [1, 1]
    assert not copied["t"].requires_grad
