"""What cannot be federated exactly is refused before training, with the reason and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import (
    _MultiProcessingLauncher as MultiProcessingLauncher,  # pyright: ignore[reportPrivateUsage] - what spawn and fork share
)
from lightning.pytorch.utilities.signature_utils import (
    is_param_in_hook_signature,  # pyright: ignore[reportUnknownVariableType] - takes any Callable
)
from torch import nn
from torch.optim import Optimizer

from edgeml_client.errors import ConfigurationError
from edgeml_client.filters import FilterRegistry
from edgeml_lightning.distributed.sharding import is_sharded
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.naming import modules_by_path
from edgeml_lightning.strategies import FederatedStrategy, PersonalModel
from edgeml_lightning.trainer_facts import is_trial_run

__all__ = [
    "check_alone",
    "check_companions",
    "check_epochs",
    "check_gradients",
    "check_optimizers",
    "check_second_model",
    "check_trainer",
    "require_lightning",
]


def require_lightning(subject: object, *, kind: type[object]) -> None:
    """Check that a Trainer or module is ``lightning``'s.

    Raises:
        ConfigurationError: It comes from the older ``pytorch_lightning`` package, or is something else.
    """
    if isinstance(subject, kind):
        return
    origins = {base.__module__.partition(".")[0] for base in type(subject).__mro__}
    if "pytorch_lightning" in origins:
        raise ConfigurationError(
            f"this {type(subject).__name__} is built on pytorch_lightning, whose classes are not those of "
            "lightning, although they have the same names: write `import lightning as L` and use L.Trainer, "
            "L.LightningModule and L.LightningDataModule throughout"
        )
    raise ConfigurationError(f"a lightning {kind.__name__} is needed, not {type(subject).__name__}")


def check_alone(models: Sequence[str]) -> None:
    """Check that a fit is a round of one federation.

    Args:
        models: The global model of each federated callback of a Trainer.

    Raises:
        ConfigurationError: There are several.
    """
    if len(models) > 1:
        raise ConfigurationError(
            f"this Trainer has {len(models)} FederatedCallbacks, for the models {', '.join(models)}, and one "
            "fit is a round of one: give each its own Trainer, and fit one after the other"
        )


def check_trainer(trainer: L.Trainer) -> None:
    """Check that a Trainer trains in a way that a round can be exact with.

    Raises:
        UnsupportedTrainingError: It forks or spawns processes for one fit, or trains by an engine whose
            gradients and parameters are out of reach.
    """
    strategy = trainer.strategy
    if isinstance(strategy.launcher, MultiProcessingLauncher):
        raise UnsupportedTrainingError(
            "this strategy (ddp_spawn, ddp_fork, ddp_notebook) starts new processes for every fit, and what "
            "a round leaves behind, its record and the personal model, would end with them: use "
            "strategy='ddp' in a script, or devices=1 in a notebook"
        )
    if vars(strategy).get("_model_averaging_period") is not None:
        raise UnsupportedTrainingError(
            "model averaging lets the processes' models differ between two averages, and a round sends one "
            "model: use DDPStrategy() without ddp_comm_state and model_averaging_period"
        )
    if isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
        return
    if not isinstance(strategy, ModelParallelStrategy):
        raise UnsupportedTrainingError(
            f"{type(strategy).__name__} keeps parameters and gradients where a federated round cannot reach "
            "them: use L.Trainer(strategy='ddp') for a model that fits on one device, "
            "ModelParallelStrategy with fully_shard (FSDP2) for one that does not, or devices=1"
        )


def check_optimizers(strategy: FederatedStrategy, optimizers: list[Optimizer]) -> None:
    """Check that a term added to the gradient reaches the optimizers' steps.

    Raises:
        UnsupportedTrainingError: An optimizer evaluates the loss several times in one step.
    """
    if not (_adds_to_gradients(strategy) or strategy.turns):
        return
    for optimizer in optimizers:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise UnsupportedTrainingError(
                "LBFGS evaluates the loss several times in one step, and its line search compares values "
                f"that {type(strategy).__name__}'s change of the gradient is not part of: use a first-order "
                "optimizer such as SGD or AdamW, or FedAvg"
            )


def check_epochs(strategy: FederatedStrategy, trainer: L.Trainer, *, first_epoch: int) -> None:
    """Check that a round has the epochs that its strategy needs, unless steps or time alone limit it.

    Raises:
        ConfigurationError: It has fewer.
    """
    max_epochs = trainer.max_epochs
    if max_epochs is None or max_epochs < 0 or is_trial_run(trainer):
        return
    num_epochs = max_epochs - first_epoch
    if num_epochs < strategy.min_epochs:
        raise ConfigurationError(
            f"{type(strategy).__name__} needs at least {strategy.min_epochs} epochs a round, and has "
            f"{num_epochs}: pass L.Trainer(max_epochs={strategy.min_epochs}) or more"
        )


def check_gradients(strategy: FederatedStrategy, module: nn.Module) -> None:
    """Check that a term which has a value for every element can be added to the gradients of a module.

    Raises:
        UnsupportedTrainingError: An embedding's gradient is sparse.
    """
    if not _adds_to_gradients(strategy):
        return
    sparse = [
        path
        for path, child in modules_by_path(module)
        if isinstance(child, nn.Embedding | nn.EmbeddingBag) and child.sparse and child.weight.requires_grad
    ]
    if sparse:
        raise UnsupportedTrainingError(
            f"the gradient of {', '.join(sparse[:5])} has only the rows of the batch, and the term of "
            f"{type(strategy).__name__} has one for every row: build the embedding with sparse=False (and "
            "Adam in place of SparseAdam), or use FedAvg"
        )


def check_companions(strategy: FederatedStrategy, trainer: L.Trainer, filter_types: Iterable[str]) -> None:
    """Check that what travels beside the model can be told from how far its parameters moved.

    Args:
        strategy: Has companions.
        trainer: The user's Trainer, with its optimizers.
        filter_types: The filters that the update will pass.

    Raises:
        UnsupportedTrainingError: It cannot be told exactly.
    """
    name = type(strategy).__name__
    if trainer.scaler is not None:
        raise UnsupportedTrainingError(
            f"precision {trainer.precision!r} uses a gradient scaler, which may leave out a step unseen, and "
            f"{name} counts steps: use precision='bf16-mixed' or '32-true'"
        )
    if any(map(is_sharded, trainer.lightning_module.parameters())):
        raise UnsupportedTrainingError(
            f"this module's parameters are sharded over processes, and what {name} keeps for each is "
            "not: use strategy='ddp', or another federated strategy"
        )
    for optimizer in trainer.optimizers:
        if not _is_plain_sgd(optimizer):
            raise UnsupportedTrainingError(
                f"{name} reads the mean gradient of a round from how far the parameters moved, which only "
                f"plain SGD allows: use torch.optim.SGD without momentum, not {_described(optimizer)}, or "
                "another strategy"
            )
    if joint := [kind for kind in sorted(set(filter_types)) if not _keeps_arrays_apart(kind)]:
        raise UnsupportedTrainingError(
            f"the update of {name} holds changes of the model and, larger by 1 / (steps * learning rate), of "
            f"control variates, and {', '.join(joint)} may weigh one against the other or leave some out: "
            "use quantization alone, or another strategy; a filter of your own that does neither declares "
            "FilterEffects(arrays_apart=True) in its class"
        )


def _keeps_arrays_apart(filter_type: str) -> bool:
    filter_class = FilterRegistry.get(filter_type)
    return filter_class is not None and filter_class.effects.arrays_apart


def _is_plain_sgd(optimizer: Optimizer) -> bool:
    return isinstance(optimizer, torch.optim.SGD) and not any(
        group["momentum"] or group["maximize"] for group in optimizer.param_groups
    )


def _described(optimizer: Optimizer) -> str:
    return f"{type(optimizer).__name__}{' with momentum' if isinstance(optimizer, torch.optim.SGD) else ''}"


def _adds_to_gradients(strategy: FederatedStrategy) -> bool:
    values = (strategy.gradient_term, strategy.personal_model, strategy.companions)
    return any(value is not None for value in values)


def check_second_model(
    trainer: L.Trainer, module: L.LightningModule, personal: PersonalModel, *, of: FederatedStrategy
) -> None:
    """Check that a second, personal copy of an untouched module can be trained beside it.

    Raises:
        UnsupportedTrainingError: It cannot be done exactly.
    """
    name, form = type(of).__name__, personal.module_form
    way_out = (
        f"use a strategy without a second model instead of {name}"
        if form is None
        else f"write the module as a {form} instead"
    )
    if any(map(is_sharded, module.parameters())):
        both = "" if form is None else " and shard both of its models in configure_model"
        raise UnsupportedTrainingError(
            "this module's parameters are sharded over processes, so that no second copy can be made of it: "
            f"{way_out}{both}"
        )
    if not module.automatic_optimization:
        raise UnsupportedTrainingError(
            f"{name} cannot train a personal copy of a module with manual optimization, because the "
            f"optimization is part of its training_step: set automatic_optimization=True, or {way_out}"
        )
    if trainer.scaler is not None:
        raise UnsupportedTrainingError(
            f"precision {trainer.precision!r} uses one gradient scaler, whose scale the two models of "
            f"{name} would share: use precision='bf16-mixed' or '32-true', or {way_out}"
        )
    if is_param_in_hook_signature(module.training_step, "dataloader_iter", explicit=True):
        raise UnsupportedTrainingError(
            "this module's training_step takes the data iterator itself, so its batches cannot be given to a "
            f"personal copy too: take a batch, or {way_out}"
        )
