"""What travels beside the model's own arrays in a round, such as SCAFFOLD's control variates."""

from __future__ import annotations

from collections.abc import Mapping

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from edgeml_lightning.callbacks.anchored_term import AnchoredTerm
from edgeml_lightning.distributed.sharding import placed_like, whole_tensor
from edgeml_lightning.functional import add_correction_
from edgeml_lightning.naming import parameter_names
from edgeml_lightning.strategies import Companions

__all__ = ["RunningCompanions"]


class RunningCompanions:
    """The companions of one round, from their arrival to what is sent of them.

    Args:
        companions: What they mean.
        module: The model, with the global one loaded.
        prefix: Stands before a parameter's name in that of its companion.
        received: The global ones.
        own: The device's own, by the same names; replaced by :meth:`advance_`.
        step_sizes: For each parameter the sum of the learning rates of its steps so far, each times the scale
            of its loss, in a round that goes on from a checkpoint.

    Attributes:
        before: The device's own, as they were when the round began.
        step_sizes: As given, and continued.
    """

    def __init__(
        self,
        companions: Companions,
        module: L.LightningModule,
        *,
        prefix: str,
        received: Mapping[str, Tensor],
        own: dict[str, Tensor],
        step_sizes: Mapping[str, float],
    ) -> None:
        self._companions = companions
        self._prefix = prefix
        self._names = parameter_names(module)
        self._received = received
        self._own = own
        corrections = {
            name: placed_like(companions.correction(own[prefix + name], received[prefix + name]), parameter)
            for parameter, name in self._names.items()
            if prefix + name in received
        }
        self._correction = AnchoredTerm(add_correction_, module, corrections)
        self.before = {name: own[name].clone() for name in received}
        self.step_sizes = dict(step_sizes)

    def add_to_gradient_(self, optimizer: Optimizer, *, factor: float) -> None:
        """Correct the gradients of one optimizer's parameters, and count its step.

        Args:
            optimizer: Is about to step.
            factor: How the loss behind the gradients was scaled, and with it the step.
        """
        self._correction.add_(optimizer, factor=factor)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = self._names.get(parameter)
                if name is not None and parameter.grad is not None:
                    self.step_sizes[name] = self.step_sizes.get(name, 0.0) + factor * float(group["lr"])

    def advance_(self, module: L.LightningModule, *, reference: Mapping[str, Tensor]) -> None:
        """Replace the device's own arrays by those after the round.

        Args:
            module: The trained model.
            reference: The parameters as they were received.
        """
        for parameter, name in parameter_names(module).items():
            companion = self._prefix + name
            if companion in self._received:
                self._own[companion] = self._companions.next_own(
                    self._own[companion],
                    self._received[companion],
                    moved=whole_tensor(parameter.detach().float() - reference[name].float()),
                    step_size=self.step_sizes.get(name, 0.0),
                )

    def after(self) -> dict[str, Tensor]:
        """Return the own arrays moved by the share of their change that is sent."""
        share = self._companions.share
        return {name: array + share * (self._own[name] - array) for name, array in self.before.items()}
