"""A personal copy of an untouched module, trained beside it on the same batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import lightning as L
import torch
from lightning.pytorch.core.optimizer import (
    _init_optimizers_and_lr_schedulers as init_optimizers,  # pyright: ignore[reportPrivateUsage] - no public way to make them
)
from lightning.pytorch.utilities.signature_utils import (
    is_param_in_hook_signature,  # pyright: ignore[reportUnknownVariableType] - takes any Callable
)
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeml_lightning.callbacks.accumulation import AccumulationWindow
from edgeml_lightning.callbacks.anchored_term import AnchoredTerm
from edgeml_lightning.callbacks.mixture import Mixture
from edgeml_lightning.callbacks.personal_log import redirect_log, restore_log
from edgeml_lightning.callbacks.requirements import check_optimizers
from edgeml_lightning.callbacks.schedules import step_schedules
from edgeml_lightning.distributed import LocalRanks, Ranks
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import parameter_names
from edgeml_lightning.personalization.optimizer_state import (
    OptimizerState,
    named_optimizer_state,
    remembered_bytes,
    restore_optimizer_state_,
)
from edgeml_lightning.randomness import borrowed_randomness, capture_randomness
from edgeml_lightning.strategies import FederatedStrategy, PersonalModel

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import LRSchedulerConfig

__all__ = ["PersonalTraining"]


class PersonalTraining:
    """The personal model of Ditto (Li et al., 2021, Algorithm 1) or APFL, and what trains it.

    After every batch of the shared model the personal one trains on the same batch, from the same random
    numbers, with optimizers and schedules of its own from ``configure_optimizers``; it accumulates, clips and
    steps when the shared one does. Nothing of it reaches the shared model: not its parameters, not its
    gradients, not its random numbers. What it logs arrives under ``personal/``.

    Args:
        trainer: The user's Trainer, in a fit.
        module: The shared model, with the received global model loaded.
        strategy: What the round does to training.
        personal: What it says of the personal model.
        anchors: The received global model, by canonical name.
        alpha: The share of a mixture that the device adapts, if it does; changed in place.
        ranks: The processes that train it together: its gradients are averaged over them.

    Attributes:
        module: The personal model.
        shared_zeroes: Whether the shared model's gradients were zeroed in the current batch.
        shared_steps: Whether its optimizer stepped in the current batch.

    Raises:
        UnsupportedTrainingError: The module cannot be copied.
    """

    def __init__(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        *,
        strategy: FederatedStrategy,
        personal: PersonalModel,
        anchors: Mapping[str, Tensor],
        alpha: Tensor | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks or LocalRanks()
        self._trainer = trainer
        self._strategy = strategy
        self._window = AccumulationWindow()
        self._restored = OptimizerState()
        self._randomness = capture_randomness()
        self._num_epochs_ended = 0
        self._modes: dict[nn.Module, bool] = {}
        self._schedules: list[LRSchedulerConfig] = []
        self.optimizers: list[Optimizer] = []
        self.shared_zeroes = False
        self.shared_steps = False
        self.module = _copy_of(module)
        self.module.trainer = trainer
        term, mixing = personal.gradient_term, personal.mixing
        self._term = None if term is None else AnchoredTerm(term, self.module, anchors)
        self._mixture = None if mixing is None else Mixture(self.module, module, mixing=mixing, alpha=alpha)
        redirect_log(self.module, to=module)

    def load_(self, arrays: Mapping[str, Tensor], optimizer: OptimizerState) -> None:
        """Go on from an earlier personal model."""
        self._ranks.load_(self.module, arrays)
        if self._mixture is not None:
            self._mixture.take_own_()
        self._restored = optimizer

    def arrays(self) -> dict[str, Tensor]:
        """Return copies, on the CPU, of all arrays of the personal model, its own ones where it is mixed."""
        own = {} if self._mixture is None else self._mixture.own_arrays()
        return {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in (model_state(self.module) | own).items()
        }

    def optimizer_state(self) -> OptimizerState:
        """Return what its optimizers remember."""
        if not self.optimizers:
            return self._restored
        return named_optimizer_state(self.optimizers, parameter_names(self.module))

    def num_bytes(self, *, fixed: Iterable[str]) -> int:
        """Return how many bytes the personal model takes but for ``fixed``, with its optimizers' memory."""
        left_out = frozenset(fixed)
        arrays = [array for name, array in model_state(self.module).items() if name not in left_out]
        remembered = remembered_bytes(self.optimizers, parameter_names(self.module))
        return sum(array.nbytes for array in arrays) + remembered

    def release(self) -> L.LightningModule:
        """Let go of the Trainer and return the personal model as an ordinary module."""
        restore_log(self.module)
        self.module._trainer = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - what Lightning itself does
        self.module.zero_grad(set_to_none=True)
        self.optimizers, self._schedules = [], []
        return self.module

    # Training.

    def start(self) -> None:
        """Set up optimizers and schedules, and give them back what they remembered."""
        self.optimizers, self._schedules = init_optimizers(self.module)
        check_optimizers(self._strategy, self.optimizers)
        restore_optimizer_state_(self.optimizers, parameter_names(self.module), self._restored)

    def before_batch(self) -> None:
        """Remember where the random streams stand before the shared model sees the batch."""
        self._randomness = capture_randomness()
        self.shared_zeroes = self.shared_steps = False

    def train_on(self, batch: object, batch_idx: int) -> None:
        """Do with the personal model what was just done with the shared one.

        Args:
            batch: The batch, on the device.
            batch_idx: Its number in the epoch.
        """

        def forward_backward() -> Tensor | None:
            return self._forward_backward(batch, batch_idx)

        self._ranks.follow_buffers_(self.module)
        with borrowed_randomness(self._randomness):
            self.module.on_train_batch_start(batch, batch_idx)
            if self.shared_steps:
                self._step(batch_idx, forward_backward)
            else:
                forward_backward()
            self.module.on_train_batch_end(None, batch, batch_idx)
        if self._trainer.is_last_batch or batch_idx + 1 == self._trainer.num_training_batches:
            self._step_schedules("epoch", self._trainer.current_epoch + 1)

    def _step(self, batch_idx: int, forward_backward: Callable[[], Tensor | None]) -> None:
        optimizer = self.optimizers[0]

        def closure() -> Tensor | None:
            loss = forward_backward()
            self._ranks.average_gradients_(self.module.parameters())
            self.module.on_before_optimizer_step(optimizer)
            self._change_gradients(optimizer)
            self.module.configure_gradient_clipping(
                optimizer,
                gradient_clip_val=self._trainer.gradient_clip_val,
                gradient_clip_algorithm=self._trainer.gradient_clip_algorithm,
            )
            return loss

        self.module.optimizer_step(self._trainer.current_epoch, batch_idx, optimizer, closure)
        if self._mixture is not None:
            self._mixture.take_own_()
        self._step_schedules("step", batch_idx + 1)

    @torch.enable_grad()
    def _forward_backward(self, batch: object, batch_idx: int) -> Tensor | None:
        with self._trainer.precision_plugin.train_step_context():
            output = self.module.training_step(*_arguments(self.module.training_step, batch, batch_idx))
        if self.shared_zeroes:
            self._window.on_zero_grad()
            self.module.on_before_zero_grad(self.optimizers[0])
            self.module.optimizer_zero_grad(self._trainer.current_epoch, batch_idx, self.optimizers[0])
        loss = output if isinstance(output, Tensor) or output is None else output["loss"]
        if loss is None:
            return None
        self.module.backward(loss / self._trainer.accumulate_grad_batches)
        self.module.on_after_backward()
        self._window.on_backward()
        return loss.detach()

    def _change_gradients(self, optimizer: Optimizer) -> None:
        if self._term is not None:
            self._term.add_(optimizer, factor=self._window.factor(self._trainer.accumulate_grad_batches))
        if self._mixture is not None:
            self._mixture.before_step_()

    # Schedules.

    def start_epoch(self) -> None:
        """Step the schedules that watch a metric of the epoch before; by now everything was measured."""
        if self._num_epochs_ended:
            self._step_schedules("epoch", self._trainer.current_epoch, plateau=True)
        self.module.on_train_epoch_start()

    def end_epoch(self) -> None:
        """Let the personal model report on its epoch."""
        self.module.on_train_epoch_end()
        self._num_epochs_ended += 1

    def _step_schedules(
        self, interval: Literal["step", "epoch"], number: int, *, plateau: bool = False
    ) -> None:
        step_schedules(
            self.module,
            self._schedules,
            interval=interval,
            number=number,
            plateau=plateau,
            metrics=self._trainer.callback_metrics,
        )

    # Measuring.

    def start_validation(self) -> None:
        """Put the personal model into evaluation mode and remember what it was in."""
        self._ranks.follow_buffers_(self.module)
        self._modes = {child: child.training for child in self.module.modules()}
        self.module.eval()
        self.module.on_validation_epoch_start()

    def validate_on(self, batch: object, batch_idx: int, dataloader_idx: int) -> None:
        """Validate on one batch, leaving the random streams as they were."""
        extra = (dataloader_idx,) if len(self._trainer.num_val_batches) > 1 else ()
        step = self.module.validation_step
        with (
            borrowed_randomness(capture_randomness()),
            self._trainer.precision_plugin.val_step_context(),
        ):
            self.module.on_validation_batch_start(batch, batch_idx, *extra)
            output = step(*_arguments(step, batch, batch_idx, *extra))
            self.module.on_validation_batch_end(output, batch, batch_idx, *extra)

    def end_validation(self) -> None:
        """Report, and go back to the modes from before the validation."""
        self.module.on_validation_epoch_end()
        for child, training in self._modes.items():
            child.training = training
        self._modes = {}


def _copy_of(module: L.LightningModule) -> L.LightningModule:
    try:
        twin = copy.deepcopy(module)
    except (TypeError, RuntimeError, AttributeError) as exc:
        raise UnsupportedTrainingError(
            f"a personal model is a second copy of {type(module).__name__}, which cannot be copied ({exc}): "
            "keep what cannot be copied out of the module, or write it as a DittoModule"
        ) from exc
    twin.zero_grad(set_to_none=True)
    return twin


def _arguments(step: Callable[..., Any], batch: object, batch_idx: int, *extra: int) -> tuple[Any, ...]:
    """Return what a step takes: the batch, and its number only if it asks for it, as Lightning does."""
    if is_param_in_hook_signature(step, "batch_idx", min_args=2):
        return (batch, batch_idx, *extra)
    return (batch, *extra)
