r"""The mixed personal model of APFL, and the gradients of its two parts.

APFL (Deng et al., 2020, https://arxiv.org/abs/2003.13461) uses the personal model
:math:`\bar v = \alpha v + (1 - \alpha) w` of a device's own model :math:`v` and its version :math:`w` of the
shared one. By the chain rule :math:`\nabla_v f(\bar v) = \alpha \nabla f(\bar v)` and
:math:`\nabla_\alpha f(\bar v) = \langle v - w, \nabla f(\bar v) \rangle`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["alpha_gradient", "mix_"]


@torch.no_grad()
def mix_(targets: Sequence[Tensor], own: Sequence[Tensor], shared: Sequence[Tensor], *, alpha: float) -> None:
    r"""Set each target to :math:`\alpha v + (1 - \alpha) w`, in place.

    Args:
        targets: What becomes :math:`\bar v`.
        own: The device's own arrays :math:`v`, in the order and shapes of ``targets``.
        shared: The shared model's arrays :math:`w`, likewise.
        alpha: In [0, 1]; 1 gives ``own`` and 0 gives ``shared`` to the bit.

    Raises:
        ValueError: ``alpha`` lies outside of [0, 1], or the sequences differ in length.

    Example:
        >>> target = torch.zeros(1)
        >>> mix_([target], [torch.tensor([4.0])], [torch.tensor([8.0])], alpha=0.25)
        >>> target.item()
        7.0
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], not {alpha!r}")
    for target, mine, theirs in zip(targets, own, shared, strict=True):
        torch.lerp(theirs.detach(), mine, alpha, out=target)


@torch.no_grad()
def alpha_gradient(differences: Sequence[Tensor], grads: Sequence[Tensor | None]) -> float:
    r"""Return :math:`\langle v - w, \nabla f(\bar v) \rangle`: how the loss grows with :math:`\alpha`.

    Args:
        differences: :math:`v - w`, array by array.
        grads: The gradients at the mixed model, in the same order; ``None`` counts as zero.

    Raises:
        ValueError: The sequences differ in length.

    Example:
        >>> alpha_gradient([torch.tensor([1.0, 2.0])], [torch.tensor([3.0, -1.0])])
        1.0
    """
    pairs = [(change, grad) for change, grad in zip(differences, grads, strict=True) if grad is not None]
    if not pairs:
        return 0.0
    return float(torch.stack([(change * grad).sum(dtype=torch.float64) for change, grad in pairs]).sum())
