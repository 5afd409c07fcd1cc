"""What a fit that fails must give back, so that the next one starts from where it did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import lightning as L
import torch
from torch import Tensor, nn

from edgeml_lightning.exchange import clone_arrays, model_state

__all__ = ["BeforeTraining"]


@dataclass(frozen=True, slots=True)
class BeforeTraining:
    """A module as a fit found it, as far as nothing else brings it back.

    A fit that fails within its validation leaves its module evaluating: the next one would train without
    dropout, and with batch normalization at rest. And what a device keeps for itself has, before its first
    round has ended, no other origin than the module.

    Attributes:
        modes: Of the module and its children, whether they train.
        arrays: Arrays of the module by name, copied.
    """

    modes: Mapping[nn.Module, bool]
    arrays: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: L.LightningModule, names: Iterable[str] = ()) -> Self:
        """Return it of a module that is not training yet, with the arrays of these names."""
        modes = {child: child.training for child in module.modules()}
        return cls(modes, clone_arrays(model_state(module), names))

    def restore_modes_(self) -> None:
        """Let parts of the module train, or not, as they did."""
        for child, trains in self.modes.items():
            child.training = trains

    @torch.no_grad()
    def restore_arrays_(self, module: L.LightningModule) -> None:
        """Give the module its arrays back; its parameters stay the same objects."""
        state = model_state(module) if self.arrays else {}
        for name, array in self.arrays.items():
            if name in state and state[name].shape == array.shape:
                state[name].copy_(array)
