"""The mixed model of APFL and the gradients of its parts agree with autograd."""

from __future__ import annotations

import pytest
import torch

from edgeml_lightning.functional import alpha_gradient, mix_


def test_the_gradients_of_a_mixture_are_those_of_the_chain_rule() -> None:
    """With u = a v + (1 - a) w autograd gives df/dv = a f'(u) and df/da = <v - w, f'(u)>."""
    torch.manual_seed(0)
    own, shared = torch.randn(5, requires_grad=True), torch.randn(5)
    alpha = torch.tensor(0.3, requires_grad=True)
    (alpha * own + (1 - alpha) * shared).pow(3).sum().backward()

    mixed = torch.empty(5)
    mix_([mixed], [own.detach()], [shared], alpha=0.3)
    mixed.requires_grad_().pow(3).sum().backward()

    assert mixed.grad is not None
    torch.testing.assert_close(0.3 * mixed.grad, own.grad)
    assert alpha_gradient([own.detach() - shared], [mixed.grad]) == pytest.approx(float(alpha.grad))  # type: ignore[arg-type]


def test_the_ends_of_a_mixture_are_its_parts_to_the_bit() -> None:
    own, shared, mixed = torch.rand(9), torch.rand(9) * 1e6, torch.empty(9)

    mix_([mixed], [own], [shared], alpha=1.0)
    assert torch.equal(mixed, own)
    mix_([mixed], [own], [shared], alpha=0.0)
    assert torch.equal(mixed, shared)


def test_a_gradient_that_is_absent_counts_as_zero() -> None:
    assert alpha_gradient([torch.ones(2)], [None]) == 0.0


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_a_mixture_takes_no_more_than_all(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        mix_([torch.ones(1)], [torch.ones(1)], [torch.ones(1)], alpha=alpha)
