"""Ditto as a module to subclass: both models in one, trained by one optimizer."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from edgeml_lightning.naming import PERSONAL_PREFIX
from edgeml_lightning.randomness import borrowed_randomness, capture_randomness
from edgeml_lightning.strategies import ModelPair
from edgeml_lightning.strategies.arguments import check_strength

__all__ = ["MODELS", "DittoModule"]

MODELS: Final = ModelPair(shared="model", personal="personal_model")
"""Where a :class:`DittoModule` holds its two models."""


class DittoModule(L.LightningModule):
    """A shared model and a personal one, trained side by side on the same batches.

    Subclass it, hand it the network, and write the steps for *one* model; they are called for each of the
    two. What they log arrives as it is for the shared model and under ``personal/`` for the personal one.
    Metrics belong into the network, so that each model has its own. The optimizer covers both:
    pass it ``self.parameters()``. Clipping is done for each model by itself, and both see
    the same random numbers.

    ``FederatedCallback`` receives and sends ``self.model`` alone, pulls ``self.personal_model`` to the
    received model with the strength ``lambda_ditto``, and keeps it on the device. Calling the module calls
    the personal model, which is the one to use.

    Args:
        model: The network. The personal one starts as a copy of it.
        lambda_ditto: The paper's lambda (Li et al., 2021, https://arxiv.org/abs/2012.04221), at least 0;
            ``None`` leaves it to the callback's strategy or to the round.

    Raises:
        ConfigurationError: ``lambda_ditto`` is negative or not finite.

    Example:
        >>> class Net(DittoModule):
        ...     def __init__(self):
        ...         super().__init__(nn.Linear(64, 10), lambda_ditto=0.1)
        ...
        ...     def training_step_of(self, model, batch, batch_idx):
        ...         features, labels = batch
        ...         loss = nn.functional.cross_entropy(model(features), labels)
        ...         self.log("train_loss", loss)  # also "personal/train_loss"
        ...         return loss
        ...
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> [name for name, _ in Net().named_parameters()]
        ['model.weight', 'model.bias', 'personal_model.weight', 'personal_model.bias']
    """

    def __init__(self, model: nn.Module, *, lambda_ditto: float | None = None) -> None:
        super().__init__()
        check_strength("lambda_ditto", lambda_ditto)
        self.model = model
        self.personal_model = copy.deepcopy(model)
        self.lambda_ditto = lambda_ditto
        self._is_personal_turn = False

    # What a subclass writes.

    @abstractmethod
    def training_step_of(self, model: nn.Module, batch: Any, batch_idx: int) -> Tensor | None:  # noqa: ANN401 - a batch is what the user's data gives
        """Return the loss of one model on one batch, or ``None`` to skip it."""
        raise NotImplementedError(
            f"{type(self).__name__} needs training_step_of(self, model, batch, batch_idx)"
        )

    def validation_step_of(self, model: nn.Module, batch: Any, batch_idx: int) -> None:  # noqa: ANN401 - as above
        """Measure one model on one batch of validation data."""

    def test_step_of(self, model: nn.Module, batch: Any, batch_idx: int) -> None:  # noqa: ANN401 - as above
        """Measure one model on one batch of test data."""

    # What Lightning calls.

    @override
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.personal_model(*args, **kwargs)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        start = capture_randomness()
        shared = self.training_step_of(self.model, batch, batch_idx)
        with borrowed_randomness(start), self._personal_turn():
            personal = self.training_step_of(self.personal_model, batch, batch_idx)
        if shared is None or personal is None:
            return personal if shared is None else shared
        return shared + personal

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step_of(self.model, batch, batch_idx)
        with borrowed_randomness(capture_randomness()), self._personal_turn():
            self.validation_step_of(self.personal_model, batch, batch_idx)

    @override
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.test_step_of(self.model, batch, batch_idx)
        with borrowed_randomness(capture_randomness()), self._personal_turn():
            self.test_step_of(self.personal_model, batch, batch_idx)

    @override
    def log(self, name: str, *args: Any, **kwargs: Any) -> None:
        super().log(f"{PERSONAL_PREFIX}{name}" if self._is_personal_turn else name, *args, **kwargs)

    @override
    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if gradient_clip_val is None:
            return
        personal = {id(parameter) for parameter in self.personal_model.parameters()}
        everything: list[nn.Parameter] = [
            parameter for group in optimizer.param_groups for parameter in group["params"]
        ]
        for is_personal in (False, True):
            parameters = [param for param in everything if (id(param) in personal) == is_personal]
            if gradient_clip_algorithm == "value":
                torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)
            else:
                torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    @contextmanager
    def _personal_turn(self) -> Generator[None]:
        self._is_personal_turn = True
        try:
            yield
        finally:
            self._is_personal_turn = False
