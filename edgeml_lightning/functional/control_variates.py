r"""SCAFFOLD's control variates: the correction of a gradient, and the variate after a round.

SCAFFOLD (Karimireddy et al., 2020, https://arxiv.org/abs/1910.06378, Algorithm 1) adds :math:`c - c_i` to
every local gradient, where :math:`c_i` estimates the device's gradient and :math:`c` that of all devices.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["add_correction_", "next_variate", "variate_correction"]


@torch.no_grad()
def add_correction_(parameters: Iterable[Tensor], corrections: Iterable[Tensor], *, factor: float) -> None:
    r"""Add :math:`c - c_i` to ``param.grad``, in place.

    A parameter whose ``grad`` is ``None`` took no part in the loss and is left alone.

    Args:
        parameters: The model's parameters.
        corrections: :math:`c - c_i`, in the order of ``parameters``, each with the shape, dtype and device of
            its parameter.
        factor: How the loss behind the gradients was scaled.

    Raises:
        ValueError: The two differ in length, or a gradient is sparse.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(1))
        >>> w.grad = torch.tensor([10.0])
        >>> add_correction_([w], [torch.tensor([-4.0])], factor=0.5)
        >>> w.grad.item()
        8.0
    """
    pairs = [(param.grad, term) for param, term in zip(parameters, corrections, strict=True)]
    present = [(grad, term) for grad, term in pairs if grad is not None]
    if any(grad.layout is not torch.strided for grad, _ in present):
        raise ValueError(
            "a gradient is sparse, and its correction has a value for every row: build the embedding with "
            "sparse=False, or use a strategy without control variates"
        )
    for grad, term in present:
        grad.add_(term, alpha=factor)


def variate_correction(own: Tensor, received: Tensor) -> Tensor:
    r"""Return :math:`c - c_i`.

    Args:
        own: :math:`c_i`.
        received: :math:`c`.

    Example:
        >>> variate_correction(torch.tensor(1.0), torch.tensor(3.0)).item()
        2.0
    """
    return received - own


@torch.no_grad()
def next_variate(own: Tensor, received: Tensor, *, moved: Tensor, step_size: float) -> Tensor:
    r"""Return :math:`c_i^+ = c_i - c + (x - y_i) / (K \eta)`, the paper's Option II.

    With plain SGD that is the mean of the device's gradients on its way from :math:`x` to :math:`y_i`, each
    weighted by its learning rate. Without a step there was no gradient, and the result is zero.

    Args:
        own: :math:`c_i`.
        received: :math:`c`.
        moved: :math:`y_i - x`, what the round changed.
        step_size: :math:`K \eta`, or the sum of the learning rates of all steps.

    Example:
        >>> next_variate(torch.tensor(1.0), torch.tensor(3.0), moved=torch.tensor(-2.0), step_size=0.5).item()
        2.0
    """
    if step_size == 0:
        return torch.zeros_like(own)
    return own - received - moved / step_size
