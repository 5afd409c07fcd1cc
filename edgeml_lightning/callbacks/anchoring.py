"""Which array belongs to each parameter: the received one, or the correction of its gradient."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from edgeml_lightning.naming import parameter_names

__all__ = ["Anchoring"]


class Anchoring:
    """Pairs parameters with their anchors once, so that every step only looks them up.

    Args:
        module: Whose parameters are meant. They must stay the same objects.
        anchors: Arrays by canonical name; parameters without one are left out.
    """

    def __init__(self, module: nn.Module, anchors: Mapping[str, Tensor]) -> None:
        self._anchors: dict[Tensor, Tensor] = {
            parameter: anchors[name] for parameter, name in parameter_names(module).items() if name in anchors
        }

    def pairs(self, optimizer: Optimizer) -> tuple[list[Tensor], list[Tensor]]:
        """Return the anchored parameters in an optimizer's groups as they are now, and their anchors."""
        parameters: list[Tensor] = [
            parameter
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter in self._anchors
        ]
        return parameters, [self._anchors[parameter] for parameter in parameters]
