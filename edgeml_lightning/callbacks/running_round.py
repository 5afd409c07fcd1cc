"""A round while it runs: what was received, and what will be sent and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import lightning as L
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeml_client.updates import DeltaVector, GlobalModel, delta_vector
from edgeml_lightning.callbacks.anchoring import Anchoring
from edgeml_lightning.exchange import check_matches, clone_arrays, load_global_, model_state
from edgeml_lightning.naming import parameter_names
from edgeml_lightning.partition import Partition
from edgeml_lightning.strategies import FederatedStrategy

if TYPE_CHECKING:
    from edgeml_client.resources.device_round import DeviceRound

__all__ = ["RunningRound", "receive"]


@dataclass(slots=True)
class RunningRound:
    """One round between its download and its upload.

    Attributes:
        device_round: The round on the control plane.
        strategy: What it does to training.
        base: The global model as received.
        split: Which arrays are received, sent and kept.
        reference: The received floating arrays in the module's own dtypes: the anchor of proximal
            terms, and what the delta is taken against.
        started_s: When the assignment was asked for, on a monotonic clock.
        first_step: The Trainer's ``global_step`` when training began; ``None`` before.
        first_epoch: Its ``current_epoch`` then; ``None`` before.
        sample_count: Training samples on this device.
        received_metrics: What the received global model scored in validation.
        own: What the device keeps beside arrays of the module; changed in place while it trains.
    """

    device_round: DeviceRound
    strategy: FederatedStrategy
    base: GlobalModel
    split: Partition
    reference: Mapping[str, Tensor]
    started_s: float
    first_step: int | None = None
    first_epoch: int | None = None
    sample_count: int = 0
    received_metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    own: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _shared: Anchoring = field(init=False)
    _pulled: Anchoring = field(init=False)
    _names: Mapping[nn.Parameter, str] = field(init=False)

    def anchor(self, module: L.LightningModule) -> None:
        """Pair the module's parameters with the received model, for :meth:`add_to_gradient_`."""
        kept = {name: self.strategy.origin_of(name) for name in self.split.kept}
        pulled = {name: self.reference[origin] for name, origin in kept.items() if origin in self.reference}
        self._shared = Anchoring(module, self.reference)
        self._pulled = Anchoring(module, pulled)
        self._names = parameter_names(module)

    def delta(self, module: L.LightningModule) -> DeltaVector:
        """Return what training changed in the arrays that are sent.

        The reference was cloned *after* the global model was loaded, so that rounding to the module's dtype
        is not part of the change.
        """
        state, sent = model_state(module), self.split.sent
        reference = {name: self.reference[name] for name in sent}
        return delta_vector(reference, {name: state[name] for name in sent})

    def withheld(self) -> tuple[str, ...]:
        """Return the floating arrays of the global model that this device does not send."""
        sent = set(self.split.sent)
        return tuple(spec.name for spec in self.base.layout if spec.is_averaged and spec.name not in sent)

    def drop_resting_gradients_(self, optimizer: Optimizer, *, epoch: int) -> None:
        """Drop the gradients of what rests in the Trainer's epoch ``epoch``: the optimizer passes over it."""
        resting = self.strategy.resting(self.split, epoch=epoch - (self.first_epoch or 0))
        if not resting:
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if self._names.get(parameter) in resting:
                    parameter.grad = None

    def add_to_gradient_(self, optimizer: Optimizer, *, factor: float) -> None:
        """Add what the strategy adds to the gradients of one optimizer's parameters."""
        self.strategy.add_to_gradient_(*self._shared.pairs(optimizer), factor=factor)
        self.strategy.add_to_personal_gradient_(*self._pulled.pairs(optimizer), factor=factor)


def receive(
    device_round: DeviceRound,
    module: L.LightningModule,
    *,
    strategy: FederatedStrategy,
    started_s: float,
    keep_weights: bool,
) -> RunningRound:
    """Download the global model and load it into ``module``.

    Arrays that the device keeps start from the global model's where it has them.

    Args:
        device_round: The round that was joined.
        module: The user's module.
        strategy: What the round does.
        started_s: When the assignment was asked for, on a monotonic clock.
        keep_weights: Leave the module as it is and take the global model only as the reference: training of
            this very round goes on from a checkpoint.

    Raises:
        ModelMismatchError: The module does not fit the global model; every difference is listed.
        ConfigurationError: The strategy does not fit the module.
    """
    split = strategy.split(module)
    base = device_round.download()
    arrays: dict[str, Tensor] = base.torch_tensors()
    state = model_state(module)
    fixed = [name for name in split.fixed if name in arrays]
    check_matches(state, arrays, received=(*split.received, *fixed), kept=split.kept)
    received = {name: arrays[name] for name in split.received}
    if keep_weights:
        reference = {
            name: value.to(state[name].device, state[name].dtype)
            for name, value in received.items()
            if state[name].is_floating_point()
        }
    else:
        frozen = {name: arrays[name] for name in fixed}
        load_global_(module, received | frozen | _first_kept(state, arrays, split=split, strategy=strategy))
        floating = [name for name in split.received if state[name].is_floating_point()]
        reference = clone_arrays(model_state(module), floating)
    running = RunningRound(
        device_round=device_round,
        strategy=strategy,
        base=base,
        split=split,
        reference=reference,
        started_s=started_s,
        own=strategy.own_arrays(module),
    )
    running.anchor(module)
    return running


def _first_kept(
    state: Mapping[str, Tensor],
    arrays: Mapping[str, Tensor],
    *,
    split: Partition,
    strategy: FederatedStrategy,
) -> dict[str, Tensor]:
    origins = {name: arrays.get(strategy.origin_of(name)) for name in split.kept}
    return {
        name: origin
        for name, origin in origins.items()
        if origin is not None and origin.shape == state[name].shape
    }
