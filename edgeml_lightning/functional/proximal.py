r"""The proximal term of FedProx and Ditto, as a loss and as its exact gradient.

Both papers add :math:`\frac{\mu}{2} \lVert w - w^t \rVert^2` to the local objective, where :math:`w^t` is
the global model the round started from. Its gradient is :math:`\mu (w - w^t)`: adding that to
``param.grad`` after the backward pass, before clipping and the optimizer's step, gives any first-order
optimizer the same gradient that autograd gives it for the loss with the term inside, at a fraction of
the cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from edgeml_lightning.functional.scaled_difference import add_scaled_difference_, compiled_scaled_difference_

__all__ = ["add_proximal_gradient_", "proximal_penalty"]


def proximal_penalty(parameters: Iterable[Tensor], anchors: Iterable[Tensor], *, mu: float) -> Tensor:
    r"""Return :math:`\frac{\mu}{2} \lVert w - w^t \rVert^2`, differentiable in ``parameters``.

    FedProx (Li et al., 2020, https://arxiv.org/abs/1812.06127, Eq. 2). For training prefer
    :func:`add_proximal_gradient_`, which costs less; this is its definition, to report or to test with.

    Args:
        parameters: The model's parameters :math:`w`; at least one.
        anchors: The global model :math:`w^t`, in the order of ``parameters``, each with the shape and
            device of its parameter.
        mu: The strength :math:`\mu`, finite and at least 0.

    Returns:
        A scalar.

    Raises:
        ValueError: ``mu`` is negative or not finite, the two iterables differ in length or in shapes, or
            both are empty.

    Example:
        >>> w = torch.tensor([3.0, 0.0], requires_grad=True)
        >>> proximal_penalty([w], [torch.tensor([1.0, 0.0])], mu=0.5).item()
        1.0
    """
    _check_strength(mu)
    pairs = _pairs(parameters, anchors)
    if not pairs:
        raise ValueError("there are no parameters")
    total = torch.stack([(param - anchor.detach()).square().sum() for param, anchor in pairs]).sum()
    return 0.5 * mu * total


@torch.no_grad()
def add_proximal_gradient_(
    parameters: Iterable[Tensor],
    anchors: Iterable[Tensor],
    *,
    mu: float,
    factor: float = 1.0,
    compiled: bool = False,
) -> None:
    r"""Add the gradient of the proximal term to ``param.grad``, in place.

    FedProx (Li et al., 2020, https://arxiv.org/abs/1812.06127, Eq. 2) minimises
    :math:`F_k(w) + \frac{\mu}{2} \lVert w - w^t \rVert^2`; the second term adds :math:`\mu (w - w^t)` to the
    gradient. The difference is taken first and then added: adding :math:`\mu w` and subtracting
    :math:`\mu w^t` would lose it to rounding in short floating-point formats.

    A parameter whose ``grad`` is ``None`` took no part in the loss; the optimizer will leave it alone, and
    so does this. (Autograd would give it a gradient of zero, so that weight decay would still shrink it.)

    Args:
        parameters: The model's parameters :math:`w`.
        anchors: The global model :math:`w^t`, in the order of ``parameters``, each with the shape and
            device of its parameter.
        mu: The strength :math:`\mu`, finite and at least 0.
        factor: How the loss behind ``grad`` was scaled: k/N when only k of N micro-batches were
            accumulated, and the gradient scaler's scale when the optimizer will do the unscaling itself.
        compiled: Use a kernel that ``torch.compile`` makes in the first call.

    Raises:
        ValueError: ``mu`` is negative or not finite, the two iterables differ in length or in shapes, or
            a gradient is sparse.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([3.0]))
        >>> w.grad = torch.tensor([10.0])
        >>> add_proximal_gradient_([w], [torch.tensor([1.0])], mu=0.5)
        >>> w.grad.item()
        11.0
    """
    _check_strength(mu)
    pairs = _pairs(parameters, anchors)
    if mu == 0:
        return
    grads: list[Tensor] = []
    params: list[Tensor] = []
    targets: list[Tensor] = []
    for param, anchor in pairs:
        grad = param.grad
        if grad is None:
            continue
        if grad.layout is not torch.strided:
            raise ValueError(
                "a gradient is sparse, and the proximal term has a value for every row: build the embedding "
                "with sparse=False, or use a strategy without a proximal term"
            )
        grads.append(grad)
        params.append(param)
        targets.append(anchor)
    add_ = compiled_scaled_difference_ if compiled else add_scaled_difference_
    add_(grads, params, targets, factor=mu * factor)


def _check_strength(mu: float) -> None:
    if not (math.isfinite(mu) and mu >= 0):
        raise ValueError(f"mu must be finite and at least 0, not {mu!r}")


def _pairs(parameters: Iterable[Tensor], anchors: Iterable[Tensor]) -> list[tuple[Tensor, Tensor]]:
    pairs = list(zip(parameters, anchors, strict=True))
    for param, anchor in pairs:
        if param.shape != anchor.shape:
            raise ValueError(f"a parameter has shape {tuple(param.shape)}, its anchor {tuple(anchor.shape)}")
    return pairs
