"""What a strategy adds to gradients before the optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from torch import Tensor

from edgeml_lightning.functional import add_proximal_gradient_

__all__ = ["GradientTerm", "proximal_term"]


class GradientTerm(Protocol):
    """A function that changes ``param.grad`` in place; gradients of its own work are not recorded."""

    def __call__(self, parameters: Sequence[Tensor], anchors: Sequence[Tensor], /, *, factor: float) -> None:
        """Add the term, after the whole backward pass of a step and before clipping.

        Args:
            parameters: Those of one optimizer that have an anchor. One whose ``grad`` is ``None`` takes no
                part in the step: leave it alone.
            anchors: The received global model, in the order, shapes, dtypes and devices of ``parameters``.
            factor: How the loss behind the gradients was scaled; scale what is added alike.
        """


def proximal_term(strength: float | None, *, compiled: bool = False) -> GradientTerm | None:
    r"""Return :math:`\mu (w - w^t)`, of FedProx and Ditto; ``None`` for a strength of 0, which adds nothing.

    Args:
        strength: The papers' :math:`\mu` or :math:`\lambda`; one that is left open counts as 0.
        compiled: Whether the kernel is one that ``torch.compile`` makes in the first step.
    """
    return partial(add_proximal_gradient_, mu=strength, compiled=compiled) if strength else None
