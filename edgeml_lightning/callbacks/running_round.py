"""A round while it runs: what was received, and what will be sent and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeml_client.errors import ConfigurationError
from edgeml_client.filters import filters_of
from edgeml_client.schemas import RoundAssignment
from edgeml_lightning.callbacks.anchoring import Anchoring
from edgeml_lightning.callbacks.companions import Companions
from edgeml_lightning.callbacks.joined_round import BaseVersion, JoinedRound
from edgeml_lightning.distributed import Ranks
from edgeml_lightning.exchange import check_matches, clone_arrays, model_state
from edgeml_lightning.naming import parameter_names
from edgeml_lightning.partition import Partition
from edgeml_lightning.strategies import FederatedStrategy

__all__ = ["RunningRound", "receive"]


@dataclass(slots=True)
class RunningRound:
    """One round between its download and its upload.

    Attributes:
        joined: Which round it is, and what it does to training.
        base: Which version of the global model was received.
        split: Which arrays are received, sent and kept.
        reference: The received floating arrays in the module's own dtypes: the anchor of proximal
            terms, and what the delta is taken against.
        started_s: When the assignment was asked for, on a monotonic clock.
        first_step: The Trainer's ``global_step`` when training began; ``None`` before.
        first_epoch: Its ``current_epoch`` then; ``None`` before.
        has_trained: Whether an optimizer has stepped while what is sent did not rest.
        sample_count: Training samples on this device.
        received_metrics: What the received global model scored in validation.
        own: What the device keeps beside arrays of the module; changed in place while it trains.
        received_beside: What came beside arrays of the module.
        companions: What becomes of that; ``None`` where nothing came, and before the device's own is known.
    """

    joined: JoinedRound
    base: BaseVersion
    split: Partition
    reference: Mapping[str, Tensor]
    started_s: float
    first_step: int | None = None
    first_epoch: int | None = None
    has_trained: bool = False
    sample_count: int = 0
    received_metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    own: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    received_beside: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    companions: Companions | None = None
    _shared: Anchoring = field(init=False)
    _pulled: Anchoring = field(init=False)
    _names: Mapping[nn.Parameter, str] = field(init=False)
    _sent: frozenset[str] = field(init=False)

    def anchor(self, module: L.LightningModule) -> None:
        """Pair the module's parameters with the received model, for :meth:`add_to_gradient_`."""
        kept = {name: self.strategy.origin_of(name) for name in self.split.kept}
        pulled = {name: self.reference[origin] for name, origin in kept.items() if origin in self.reference}
        self._shared = Anchoring(module, self.reference)
        self._pulled = Anchoring(module, pulled)
        self._names = parameter_names(module)
        self._sent = frozenset(self._names.values()) & frozenset(self.split.sent)

    @property
    def assignment(self) -> RoundAssignment:
        """What the control plane asks for."""
        return self.joined.assignment

    @property
    def strategy(self) -> FederatedStrategy:
        """What the round does to training."""
        return self.joined.strategy

    def before_and_after(
        self, module: L.LightningModule, ranks: Ranks
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Return the arrays that are sent, as they were received and as they are: do not train on.

        The reference was cloned *after* the global model was loaded, so that rounding to the module's dtype
        is not part of the change.

        Args:
            module: The user's module, trained.
            ranks: The processes that trained it. Only the first gets the arrays.
        """
        state, sent = model_state(module), self.split.sent
        before = {name: self.reference[name] for name in sent}
        after = {name: state[name] for name in sent}
        if self.companions is not None:
            before |= self.companions.before
            after |= self.companions.after()
        return ranks.whole(before), ranks.whole(after)

    def drop_resting_gradients_(self, optimizer: Optimizer, *, epoch: int) -> None:
        """Drop the gradients of what rests in the Trainer's epoch ``epoch``: the optimizer passes over it."""
        resting = self.strategy.resting(self.split, epoch=epoch - (self.first_epoch or 0))
        self.has_trained = self.has_trained or not resting >= self._sent
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
        if self.companions is not None:
            self.companions.add_to_gradient_(optimizer, factor=factor)

    @property
    def filter_types(self) -> tuple[str, ...]:
        """The types of the filters that the round asks for."""
        return tuple(str(entry["type"]) for entry in filters_of(self.assignment.config))

    def begin_companions(self, module: L.LightningModule, *, step_sizes: Mapping[str, float]) -> None:
        """Take up what travels beside the model, now that what the device kept is known."""
        if self.received_beside:
            self.companions = Companions(
                self.strategy, module, received=self.received_beside, own=self.own, step_sizes=step_sizes
            )


def receive(
    joined: JoinedRound, module: L.LightningModule, *, ranks: Ranks, started_s: float, keep_weights: bool
) -> RunningRound:
    """Download the global model of a round and load it into ``module``, in every process.

    Arrays that the device keeps start from the global model's where it has them.

    Args:
        joined: The round that was joined.
        module: The user's module.
        ranks: The processes that train together.
        started_s: When the assignment was asked for, on a monotonic clock.
        keep_weights: Leave the module as it is and take the global model only as the reference: training of
            this very round goes on from a checkpoint.

    Raises:
        ModelMismatchError: The module does not fit the global model; every difference is listed.
        ConfigurationError: The strategy does not fit the module.
    """
    split = joined.strategy.split(module)
    base = ranks.on_first(joined.download)
    state = model_state(module)
    beside = joined.strategy.companions(module)
    arrays = ranks.on_every(lambda: _arrays_to_load(joined, state, split=split, beside=beside))
    received_beside = ranks.on_first(lambda: _received_beside(joined, beside)) if beside else {}
    restored = clone_arrays(state, state) if keep_weights else {}
    ranks.load_(module, arrays)
    floating = [name for name in split.received if state[name].is_floating_point()]
    reference = clone_arrays(model_state(module), floating)
    _copy_(restored, into=state)
    running = RunningRound(
        joined=joined,
        base=base,
        split=split,
        reference=reference,
        started_s=started_s,
        own=joined.strategy.own_arrays(module),
        received_beside={name: array.to(beside[name]) for name, array in received_beside.items()},
    )
    running.anchor(module)
    return running


def _arrays_to_load(
    joined: JoinedRound,
    state: Mapping[str, Tensor],
    *,
    split: Partition,
    beside: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    if joined.device_round is None:
        return {}
    arrays: dict[str, Tensor] = joined.device_round.download().torch_tensors()
    fixed = [name for name in split.fixed if name in arrays]
    _check_beside(joined.strategy, beside, arrays)
    others = [name for name in arrays if "/" in name and name not in state and name not in beside]
    check_matches(
        {**state, **beside},
        arrays,
        received=(*split.received, *fixed, *beside),
        kept=(*split.kept, *others),
    )
    origins = {name: arrays.get(joined.strategy.origin_of(name)) for name in split.kept}
    first_kept = {
        name: origin
        for name, origin in origins.items()
        if origin is not None and origin.shape == state[name].shape
    }
    return {name: arrays[name] for name in (*split.received, *fixed)} | first_kept


def _check_beside(
    strategy: FederatedStrategy, beside: Mapping[str, Tensor], arrays: Mapping[str, Tensor]
) -> None:
    if beside and not beside.keys() & arrays.keys():
        name = type(strategy).__name__
        raise ConfigurationError(
            f"{name} needs {len(beside)} arrays beside the model's, such as {min(beside)!r}, and the global "
            f"model has none of them: register {name}(...).shared_state(module) as the global model"
        )


def _received_beside(joined: JoinedRound, beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if joined.device_round is None:
        return {}
    model = joined.device_round.download()
    return {name: torch.tensor(model.array(name)) for name in beside}


@torch.no_grad()
def _copy_(arrays: Mapping[str, Tensor], *, into: Mapping[str, Tensor]) -> None:
    for name, array in arrays.items():
        into[name].copy_(array)
