"""The proximal term added to gradients is the gradient of the proximal term in the loss."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer

from edgeml_lightning.functional import add_proximal_gradient_, proximal_penalty

MU = 0.3

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda params: SGD(params, lr=0.1),
    "momentum": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True),
    "weight decay": lambda params: SGD(params, lr=0.1, weight_decay=0.1),
    "adam": lambda params: Adam(params, lr=0.01),
    "adamw": lambda params: AdamW(params, lr=0.01),
    "fused adamw": lambda params: AdamW(params, lr=0.01, fused=True),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def batches(num: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(5, 8, generator=generator), torch.randint(3, (5,), generator=generator))
        for _ in range(num)
    ]


def trained(
    make_optimizer: Callable[..., Optimizer], *, in_loss: bool, clip: str, accumulate: int
) -> list[torch.Tensor]:
    """Train seven batches; the last accumulation window may be short: k = 7 mod N."""
    model = network()
    anchors = [param.detach().clone() + 0.05 for param in model.parameters()]
    optimizer = make_optimizer(model.parameters())
    data, in_window = batches(7), 0
    for number, (features, labels) in enumerate(data, start=1):
        loss = cross_entropy(model(features), labels)
        if in_loss:
            loss = loss + proximal_penalty(model.parameters(), anchors, mu=MU)
        (loss / accumulate).backward()
        in_window += 1
        if number % accumulate and number < len(data):
            continue
        if not in_loss:
            add_proximal_gradient_(model.parameters(), anchors, mu=MU, factor=in_window / accumulate)
        if clip == "norm":
            nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        if clip == "value":
            nn.utils.clip_grad_value_(model.parameters(), 0.02)
        optimizer.step()
        optimizer.zero_grad()
        in_window = 0
    return [param.detach() for param in model.parameters()]


@pytest.mark.parametrize("accumulate", [1, 3], ids=["every batch", "short last window"])
@pytest.mark.parametrize("clip", ["", "norm", "value"], ids=["unclipped", "by norm", "by value"])
@pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_gradient_equals_autograd(
    make_optimizer: Callable[..., Optimizer], clip: str, accumulate: int
) -> None:
    """d/dw [F(w) + mu/2 |w - w_t|^2] = dF/dw + mu (w - w_t), for any first-order optimizer."""
    by_hand = trained(make_optimizer, in_loss=False, clip=clip, accumulate=accumulate)
    by_autograd = trained(make_optimizer, in_loss=True, clip=clip, accumulate=accumulate)

    for ours, theirs in zip(by_hand, by_autograd, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_penalty_is_half_mu_times_the_squared_distance() -> None:
    """0.5 * 0.5 * (2^2 + 0^2 + 1^2) = 1.25, over several tensors."""
    parameters = [torch.tensor([3.0, 0.0]), torch.tensor([[1.0]])]
    anchors = [torch.tensor([1.0, 0.0]), torch.tensor([[2.0]])]

    assert proximal_penalty(parameters, anchors, mu=0.5).item() == pytest.approx(1.25)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_short_floats_keep_a_small_distance(dtype: torch.dtype, bound: float) -> None:
    """Subtracting first keeps w - w_t = 2^-8 exact near 1, where mu*w and mu*w_t would round it away."""
    anchor = torch.ones(1000, dtype=dtype)
    parameter = nn.Parameter(anchor + 2**-8 * (2 if dtype == torch.bfloat16 else 1))
    parameter.grad = torch.zeros_like(anchor)

    add_proximal_gradient_([parameter], [anchor], mu=0.1)

    expected = 0.1 * (parameter.detach().float() - 1.0)
    assert (parameter.grad.float() - expected).abs().max() <= bound * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", ["in one piece", "transposed", "a part of a larger one"])
def test_large_parameters_are_taken_in_blocks_that_change_nothing(dtype: torch.dtype, layout: str) -> None:
    """600 x 1000 elements are three blocks, the last one short; each is g + 0.1 (w - w_t), rounded."""
    generator = torch.Generator().manual_seed(0)
    weights, anchor, gradient = (torch.randn(600, 1000, generator=generator).to(dtype) for _ in range(3))
    shapes: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "in one piece": torch.clone,
        "transposed": lambda tensor: tensor.clone().t(),
        "a part of a larger one": lambda tensor: torch.cat([tensor, tensor], dim=1)[:, :1000],
    }
    parameter = nn.Parameter(shapes[layout](weights))
    parameter.grad = shapes[layout](gradient)
    small = nn.Parameter(torch.ones(3, dtype=dtype))
    small.grad = torch.zeros(3, dtype=dtype)

    add_proximal_gradient_([parameter, small], [shapes[layout](anchor), torch.zeros(3, dtype=dtype)], mu=0.1)

    expected, eps = shapes[layout](gradient.add(weights - anchor, alpha=0.1)), torch.finfo(dtype).eps
    torch.testing.assert_close(parameter.grad, expected, rtol=eps, atol=eps)
    torch.testing.assert_close(small.grad, torch.full((3,), 0.1, dtype=dtype))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_kernel_adds_the_same() -> None:
    """It adds 0.5 k/N (w - w_t), of two parameters and for two values of k/N, from one compilation."""
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((40, 30), (7,))]
    anchors = [torch.randn(param.shape, generator=generator) for param in parameters]

    for factor in (1.0, 1 / 3):
        for compiled in (False, True):
            gradients = [torch.ones_like(param) for param in parameters]
            for param, gradient in zip(parameters, gradients, strict=True):
                param.grad = gradient
            add_proximal_gradient_(parameters, anchors, mu=0.5, factor=factor, compiled=compiled)
            for param, gradient, anchor in zip(parameters, gradients, anchors, strict=True):
                expected = 1 + 0.5 * factor * (param.detach() - anchor)
                torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-6)


def test_parameters_without_a_gradient_are_left_alone() -> None:
    """A frozen or unused parameter took no part in the loss: the optimizer skips it, and so does the term."""
    used, unused = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    used.grad = torch.zeros(1)

    add_proximal_gradient_([used, unused], [torch.zeros(1), torch.zeros(1)], mu=1.0)

    assert used.grad.item() == 1.0
    assert unused.grad is None


def test_factor_scales_the_term_alone() -> None:
    """The gradient is 10 + 3 * 0.5 * (3 - 1) = 13."""
    parameter = nn.Parameter(torch.tensor([3.0]))
    parameter.grad = torch.tensor([10.0])

    add_proximal_gradient_([parameter], [torch.tensor([1.0])], mu=0.5, factor=3.0)

    assert parameter.grad.item() == pytest.approx(13.0)


def test_sparse_gradients_are_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()

    with pytest.raises(ValueError, match="sparse=False"):
        add_proximal_gradient_(embedding.parameters(), [torch.zeros(4, 2)], mu=0.1)


@pytest.mark.parametrize("mu", [-0.1, float("nan"), float("inf")])
def test_strength_is_a_finite_number_of_at_least_zero(mu: float) -> None:
    with pytest.raises(ValueError, match="mu must be finite"):
        add_proximal_gradient_([], [], mu=mu)
    with pytest.raises(ValueError, match="mu must be finite"):
        proximal_penalty([torch.zeros(1)], [torch.zeros(1)], mu=mu)


def test_parameters_and_anchors_go_together() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.zeros(2)

    with pytest.raises(ValueError, match="shorter"):
        add_proximal_gradient_([parameter], [], mu=0.1)
    with pytest.raises(ValueError, match="shape"):
        add_proximal_gradient_([parameter], [torch.zeros(1)], mu=0.1)
    with pytest.raises(ValueError, match="no parameters"):
        proximal_penalty([], [], mu=0.1)


def test_strength_zero_changes_nothing() -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 7.0)

    add_proximal_gradient_([parameter], [torch.zeros(2)], mu=0.0)

    assert parameter.grad.tolist() == [7.0, 7.0]
