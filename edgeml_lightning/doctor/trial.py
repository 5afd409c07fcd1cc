"""One optimizer step of a module in a real Trainer, with a look at the gradients on the way."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from edgeml_lightning.callbacks.accumulation import AccumulationWindow, loss_factor
from edgeml_lightning.callbacks.anchored_term import AnchoredTerm
from edgeml_lightning.callbacks.requirements import check_optimizers
from edgeml_lightning.exchange import clone_arrays, model_state
from edgeml_lightning.functional import add_proximal_gradient_, proximal_penalty
from edgeml_lightning.naming import parameter_names
from edgeml_lightning.quiet import quiet_lightning
from edgeml_lightning.seeding import seeded
from edgeml_lightning.strategies import FedProx

__all__ = ["Trial", "TrialData", "run_trial"]

MU: Final = 0.5
"""The strength of the term in a trial; large enough to be seen beside the loss's own gradient."""

TrialData = L.LightningDataModule | torch.utils.data.DataLoader[Any]


@dataclass(slots=True)
class Trial:
    """What one step showed.

    Attributes:
        gradients: Before the optimizer's step, by parameter; those without one are absent.
        unused: Parameters that require a gradient and got none.
        optimizers: The names of their classes.
    """

    gradients: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    unused: list[str] = field(default_factory=list[str])
    optimizers: list[str] = field(default_factory=list[str])


def run_trial(module: L.LightningModule, data: TrialData | None, *, term_in_loss: bool) -> Trial:
    """Train a copy of ``module`` for one batch, with the proximal term, and return what was seen.

    The anchors differ a little from the parameters, or the term would vanish; both ways to add it see the
    same batch, the same anchors and the same random numbers.

    Args:
        module: Stays as it is.
        data: Where the batch comes from; ``None`` uses the module's own ``train_dataloader``.
        term_in_loss: Whether autograd differentiates the term as a part of the loss; otherwise it is added
            to the gradient as :class:`~edgeml_lightning.FedProx` does.

    Raises:
        UnsupportedTrainingError: An optimizer cannot be federated exactly.
        Exception: Whatever the module or its data raise.
    """
    subject = copy.deepcopy(module)
    with quiet_lightning(), warnings.catch_warnings(), seeded(0):
        warnings.simplefilter("ignore")  # advice on the length and the speed of so short a fit
        trial = Trial()
        anchors = _anchors(subject)
        if term_in_loss:
            _put_term_into_loss_(subject, anchors)
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=1,  # a module that steps by itself may never reach max_steps
            max_steps=1,
            limit_train_batches=1,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[_Watcher(trial, anchors=anchors, adds_term=not term_in_loss)],
        )
        given: dict[str, Any] = {} if data is None else _as_arguments(data)
        trainer.fit(subject, **given)
    return trial


def _as_arguments(data: TrialData) -> dict[str, Any]:
    name = "datamodule" if isinstance(data, L.LightningDataModule) else "train_dataloaders"
    return {name: data}


def _anchors(module: L.LightningModule) -> dict[str, Tensor]:
    state = model_state(module)
    clones = clone_arrays(state, parameter_names(module).values())
    return {name: anchor + 0.01 * torch.randn_like(anchor) for name, anchor in clones.items()}


def _put_term_into_loss_(module: L.LightningModule, anchors: Mapping[str, Tensor]) -> None:
    step: Callable[..., Any] = module.training_step
    pairs = [
        (parameter, anchors[name])
        for parameter, name in parameter_names(module).items()
        if parameter.requires_grad
    ]
    parameters, targets = [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    @functools.wraps(step)  # Lightning reads the signature to decide what to pass
    def training_step(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the module's own takes
        output = step(*args, **kwargs)
        penalty = proximal_penalty(parameters, targets, mu=MU)
        if isinstance(output, Mapping):
            more: Mapping[str, Any] = output  # pyright: ignore[reportUnknownVariableType] - the user's own
            return {**more, "loss": more["loss"] + penalty}
        return output if output is None else output + penalty

    module.training_step = training_step  # type: ignore[method-assign] # of this copy alone


class _Watcher(L.Callback):
    """Adds the term where it is asked to, and notes the gradients that the optimizer will see."""

    def __init__(self, trial: Trial, *, anchors: Mapping[str, Tensor], adds_term: bool) -> None:
        self._trial = trial
        self._anchors = anchors
        self._adds_term = adds_term
        self._window = AccumulationWindow()

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._trial.optimizers = [type(optimizer).__name__ for optimizer in trainer.optimizers]
        check_optimizers(FedProx(proximal_mu=MU), trainer.optimizers)

    @override
    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._window.on_backward()

    @override
    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._adds_term:
            term = AnchoredTerm(functools.partial(add_proximal_gradient_, mu=MU), pl_module, self._anchors)
            term.add_(optimizer, factor=loss_factor(trainer, self._window, optimizer))
        for parameter, name in parameter_names(pl_module).items():
            if parameter.grad is not None:
                self._trial.gradients[name] = parameter.grad.detach().clone()
            elif parameter.requires_grad:
                self._trial.unused.append(name)
