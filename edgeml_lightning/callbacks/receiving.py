"""The beginning of a round: the global model is loaded, and what the device kept is recalled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import lightning as L
import torch
from torch import Tensor

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.callbacks.anchored_term import AnchoredTerm
from edgeml_lightning.callbacks.joined_round import JoinedRound
from edgeml_lightning.callbacks.mixture import kept_alpha
from edgeml_lightning.callbacks.round_checkpoint import RoundCheckpoint
from edgeml_lightning.callbacks.running_companions import RunningCompanions
from edgeml_lightning.callbacks.running_round import RunningRound
from edgeml_lightning.distributed import Ranks
from edgeml_lightning.exchange import check_matches, clone_arrays, model_state
from edgeml_lightning.naming import PERSONAL_PREFIX, is_companion, parameter_names, with_prefix
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
        ConfigurationError: The strategy does not fit the module, or the global model lacks its companions.
        PersonalStateError: What the device kept cannot be used.
    """
    strategy = joined.strategy
    split, beside = strategy.split(module), strategy.companion_arrays(module)
    reference = _load_(joined, module, ranks=ranks, split=split, beside=beside, goes_on=resumed is not None)
    received_beside = ranks.on_first(lambda: _received_beside(joined, beside)) if beside else {}
    own = beside | kept_alpha(strategy)
    personal = _personal_arrays(strategy, model_state(module), split=split, own=own)
    recalled = ranks.on_first(lambda: recall(personal)) if personal else None
    if recalled is not None:
        known = own.keys() & recalled.arrays.keys()
        own.update({name: recalled.arrays[name].to(own[name], copy=True) for name in known})
    names = parameter_names(module)
    return RunningRound(
        joined=joined,
        split=split,
        reference=reference,
        terms=_terms(strategy, module, split=split, reference=reference),
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


def _load_(
    joined: JoinedRound,
    module: L.LightningModule,
    *,
    ranks: Ranks,
    split: Partition,
    beside: Mapping[str, Tensor],
    goes_on: bool,
) -> dict[str, Tensor]:
    """Load the global model, and return what was received of it in the module's own dtypes.

    Where training ``goes_on``, the module is left in the end as it was.
    """
    state = model_state(module)
    arrays = ranks.on_every(lambda: _arrays_to_load(joined, state, split=split, beside=beside))
    before = clone_arrays(state, state) if goes_on else {}
    ranks.load_(module, arrays)
    floating = [name for name in split.received if state[name].is_floating_point()]
    reference = clone_arrays(model_state(module), floating)
    _copy_(before, into=state)
    return reference


def _personal_arrays(
    strategy: FederatedStrategy,
    state: Mapping[str, Tensor],
    *,
    split: Partition,
    own: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return the arrays that a personal state of the round has; empty if nothing is personal."""
    arrays = {name: state[name] for name in split.kept}
    if strategy.second_model is not None:
        fixed = frozenset(split.fixed)
        second = {name: array for name, array in state.items() if name not in fixed}
        arrays |= with_prefix(second, PERSONAL_PREFIX)
    return arrays | dict(own)


def _terms(
    strategy: FederatedStrategy,
    module: L.LightningModule,
    *,
    split: Partition,
    reference: Mapping[str, Tensor],
) -> list[AnchoredTerm]:
    """Return what is added to gradients of the shared parameters, and of a personal model in the module."""
    personal = None if strategy.personal_model is None else strategy.personal_model.gradient_term
    origins = {name: strategy.origin_of(name) for name in split.kept}
    kept = {name: reference[origin] for name, origin in origins.items() if origin in reference}
    pairs = [(strategy.gradient_term, reference), (personal, kept)]
    return [AnchoredTerm(term, module, anchors) for term, anchors in pairs if term is not None and anchors]


def _companions(
    strategy: FederatedStrategy,
    module: L.LightningModule,
    *,
    received: Mapping[str, Tensor],
    own: dict[str, Tensor],
    step_sizes: Mapping[str, float],
) -> RunningCompanions | None:
    if strategy.companions is None or not received:
        return None
    return RunningCompanions(
        strategy.companions,
        module,
        prefix=f"{strategy.label}/",
        received=received,
        own=own,
        step_sizes=step_sizes,
    )


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


def _received_beside(joined: JoinedRound, beside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if joined.device_round is None:
        return {}
    model = joined.device_round.download()
    return {name: torch.tensor(model.array(name)) for name in beside}


@torch.no_grad()
def _copy_(arrays: Mapping[str, Tensor], *, into: Mapping[str, Tensor]) -> None:
    for name, array in arrays.items():
        into[name].copy_(array)
