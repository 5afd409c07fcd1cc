"""APFL's personal model: a mixture while it is used, the device's own model while its optimizer steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeml_lightning.functional import alpha_gradient, mix_
from edgeml_lightning.naming import canonical_name
from edgeml_lightning.strategies import FederatedStrategy, Mixing

__all__ = ["Mixture", "alpha_name", "kept_alpha"]


def alpha_name(strategy: FederatedStrategy) -> str:
    r"""Return under which name a device keeps an :math:`\alpha` that it adapts."""
    return f"{strategy.label}/alpha"


def kept_alpha(strategy: FederatedStrategy) -> dict[str, Tensor]:
    r"""Return, by its name, the :math:`\alpha` that a device starts from if it adapts one; else nothing."""
    mixing = None if strategy.second_model is None else strategy.second_model.mixing
    return {alpha_name(strategy): _as_tensor(mixing.alpha)} if mixing is not None and mixing.rate else {}


class Mixture:
    r"""Keeps a device's own :math:`v` beside a module that holds :math:`\alpha v + (1 - \alpha) w`.

    After each step of the two the module is mixed anew, from the shared model as it is then:
    Deng et al., 2020, https://arxiv.org/abs/2003.13461, Algorithm 1. Parameters that require no gradient, and
    buffers, are the personal module's alone.

    Args:
        personal: The module that is mixed; its parameters are :math:`v` at first.
        shared: The module that it is a copy of, with :math:`w`.
        mixing: How they are mixed.
        alpha: The :math:`\alpha` that the device keeps, a scalar that is adapted in place; ``None`` if it
            stays as it is.
    """

    def __init__(
        self, personal: nn.Module, shared: nn.Module, *, mixing: Mixing, alpha: Tensor | None
    ) -> None:
        pairs = zip(personal.parameters(), shared.parameters(), strict=True)
        trained = [(mine, theirs) for mine, theirs in pairs if mine.requires_grad]
        self._mixed = [mine for mine, _ in trained]
        self._shared = [theirs for _, theirs in trained]
        self._own = [mine.detach().clone() for mine in self._mixed]
        self._differences: list[Tensor] = []
        self._personal = personal
        self._alpha = _as_tensor(mixing.alpha) if alpha is None else alpha
        self._rate = mixing.rate
        self._mix_()

    @torch.no_grad()
    def _mix_(self) -> None:
        """Mix the module from the device's own parameters and the shared ones."""
        mix_(self._mixed, self._own, self._shared, alpha=float(self._alpha))
        if self._rate:
            self._differences = [mine - theirs for mine, theirs in zip(self._own, self._shared, strict=True)]

    def take_own_(self) -> None:
        """Take the module's parameters, as they were loaded or stepped to, as the device's own; mix them."""
        self._own = [mine.detach().clone() for mine in self._mixed]
        self._mix_()

    def own_arrays(self) -> dict[str, Tensor]:
        """Return the device's own parameters by canonical name; tied ones under each of their names."""
        own = {id(mixed): mine for mixed, mine in zip(self._mixed, self._own, strict=True)}
        return {
            canonical_name(name): own[id(parameter)]
            for name, parameter in self._personal.named_parameters(remove_duplicate=False)
            if id(parameter) in own
        }

    @torch.no_grad()
    def before_step_(self) -> None:
        """Turn gradients at the mixture into those of the own parameters, for the optimizer to step on.

        Where the loss was scaled, the step of alpha is scaled with it, as those of the two models are.
        """
        grads = [mixed.grad for mixed in self._mixed]
        alpha = float(self._alpha)
        if self._rate:
            self._alpha.sub_(self._rate * alpha_gradient(self._differences, grads)).clamp_(0, 1)
        for mixed, mine, grad in zip(self._mixed, self._own, grads, strict=True):
            if grad is not None:
                grad.mul_(alpha)
            mixed.copy_(mine)


def _as_tensor(alpha: float) -> Tensor:
    return torch.tensor(alpha, dtype=torch.float64)
