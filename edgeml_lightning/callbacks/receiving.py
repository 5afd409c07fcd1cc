"""The beginning of a round: the global model is loaded, and what the device kept is recalled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import lightning as L
import torch
from torch import Tensor

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.callbacks.anchoring import Anchoring
from edgeml_lightning.callbacks.companions import Companions
from edgeml_lightning.callbacks.joined_round import JoinedRound
from edgeml_lightning.callbacks.round_checkpoint import RoundCheckpoint
from edgeml_lightning.callbacks.running_round import RunningRound
from edgeml_lightning.distributed import Ranks
from edgeml_lightning.exchange import check_matches, clone_arrays, model_state
from edgeml_lightning.naming import PERSONAL_PREFIX, check_beside, is_companion, parameter_names, with_prefix
from edgeml_lightning.partition import Partition
from edgeml_lightning.personalization import PersonalState
from edgeml_lightning.strategies import FederatedStrategy

__all__ = ["receive"]


def receive(
    joined: JoinedRound,
    module: L.LightningModule,
    *,
    ranks: Ranks,
    started_s: float,
    resumed: RoundCheckpoint | None,
    recall: Callable[[Mapping[str, Tensor]], PersonalState | None],
) -> RunningRound:
    """Load the global model of a round into ``module``, in every process, and recall what the device kept.

    Arrays that the device keeps start from the global model's where it has them; what is recalled of them is
    loaded by :class:`~edgeml_lightning.callbacks.personal_side.PersonalSide`.

    Args:
        joined: The round that was joined.
        module: The user's module.
        ranks: The processes that train together.
        started_s: When the assignment was asked for, on a monotonic clock.
        resumed: The checkpoint from which training of this very round goes on: the module is left as it is,
            and the global model taken only as the reference.
        recall: Finds what the device kept, in the first process, by the arrays it must have.

    Raises:
        ModelMismatchError: The module does not fit the global model; every difference is listed.
        ConfigurationError: The strategy does not fit the module, or what it keeps, or sends, beside arrays
            of the module has a name that could be one of them, or is sent and not kept.
        PersonalStateError: What the device kept cannot be used.
    """
    strategy = joined.strategy
    split, beside = strategy.split(module), strategy.companions(module)
    state = model_state(module)
    arrays = ranks.on_every(lambda: _arrays_to_load(joined, state, split=split, beside=beside))
    received_beside = ranks.on_first(lambda: _received_beside(joined, beside)) if beside else {}
    restored = clone_arrays(state, state) if resumed is not None else {}
    ranks.load_(module, arrays)
    floating = [name for name in split.received if state[name].is_floating_point()]
    reference = clone_arrays(model_state(module), floating)
    _copy_(restored, into=state)
    own = strategy.own_arrays(module)
    _check_kept(strategy, own=own, received_beside=received_beside)
    personal = _personal_arrays(strategy, state, split=split, own=own)
    recalled = ranks.on_first(lambda: recall(personal)) if personal else None
    if recalled is not None:
        known = own.keys() & recalled.arrays.keys()
        own.update({name: recalled.arrays[name].to(own[name], copy=True) for name in known})
    origins = {name: strategy.origin_of(name) for name in split.kept}
    pulled = {name: reference[origin] for name, origin in origins.items() if origin in reference}
    names = parameter_names(module)
    return RunningRound(
        joined=joined,
        split=split,
        reference=reference,
        shared=Anchoring(module, reference),
        pulled=Anchoring(module, pulled),
        names=names,
        sent_parameters=frozenset(names.values()) & frozenset(split.sent),
        own=own,
        companions=_companions(
            strategy,
            module,
            received={name: array.to(beside[name]) for name, array in received_beside.items()},
            own=own,
            step_sizes={} if resumed is None else resumed.step_sizes,
        ),
        recalled=recalled,
        started_s=started_s,
        resumed=resumed,
        first_step=None if resumed is None else resumed.first_step,
        first_epoch=None if resumed is None else resumed.first_epoch,
        has_trained=resumed is not None and resumed.has_trained,
    )


def _personal_arrays(
    strategy: FederatedStrategy,
    state: Mapping[str, Tensor],
    *,
    split: Partition,
    own: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the arrays that a personal state of the round has; empty if nothing is personal."""
    arrays = {name: state[name] for name in split.kept}
    if strategy.keeps_model:
        fixed = frozenset(split.fixed)
        second = {name: array for name, array in state.items() if name not in fixed}
        arrays |= with_prefix(second, PERSONAL_PREFIX)
    return arrays | dict(own)


def _companions(
    strategy: FederatedStrategy,
    module: L.LightningModule,
    *,
    received: Mapping[str, Tensor],
    own: dict[str, Tensor],
    step_sizes: Mapping[str, float],
) -> Companions | None:
    if not received:
        return None
    return Companions(strategy, module, received=received, own=own, step_sizes=step_sizes)


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
    _check_registered(joined.strategy, beside, arrays)
    others = [name for name in arrays if is_companion(name) and name not in state and name not in beside]
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


def _check_registered(
    strategy: FederatedStrategy, beside: Mapping[str, Tensor], arrays: Mapping[str, Tensor]
) -> None:
    if beside and not beside.keys() & arrays.keys():
        name = type(strategy).__name__
        raise ConfigurationError(
            f"{name} needs {len(beside)} arrays beside the model's, such as {min(beside)!r}, and the global "
            f"model has none of them: register {name}(...).shared_state(module) as the global model"
        )


def _check_kept(
    strategy: FederatedStrategy, *, own: Mapping[str, Tensor], received_beside: Mapping[str, Tensor]
) -> None:
    check_beside((*own, *received_beside), of=strategy)
    if unkept := sorted(received_beside.keys() - own.keys()):
        raise ConfigurationError(
            f"{type(strategy).__name__} has companions that the device does not keep: name "
            f"{', '.join(unkept[:5])} in own_arrays too"
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
