"""A term of the gradient, beside the arrays that it is taken against."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeml_lightning.naming import parameter_names
from edgeml_lightning.strategies import GradientTerm

__all__ = ["AnchoredTerm"]


class AnchoredTerm:
    """Pairs parameters with their anchors once, so that every step only looks them up.

    Args:
        term: What is added to gradients.
        module: Whose parameters are meant. They must stay the same objects.
        anchors: Arrays by canonical name; parameters without one are left out.
    """

    def __init__(self, term: GradientTerm, module: nn.Module, anchors: Mapping[str, Tensor]) -> None:
        self._term = term
        self._anchors: dict[Tensor, Tensor] = {
            parameter: anchors[name] for parameter, name in parameter_names(module).items() if name in anchors
        }

    @torch.no_grad()
    def add_(self, optimizer: Optimizer, *, factor: float) -> None:
        """Add the term to the gradients of the anchored parameters in an optimizer's groups as they are now.

        Args:
            optimizer: Is about to step.
            factor: How the loss behind the gradients was scaled.
        """
        parameters: list[Tensor] = [
            parameter
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter in self._anchors
        ]
        if parameters:
            self._term(parameters, [self._anchors[parameter] for parameter in parameters], factor=factor)
