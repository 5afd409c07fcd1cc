"""A whole round with any training loop."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Final, Literal

from edgeml_client.errors import ConfigurationError
from edgeml_client.resources.device_round import DeviceRound
from edgeml_client.rounds.fedper import private_names
from edgeml_client.rounds.local_training import (
    LocalTrainFn,
    ProximalTerm,
    run_local_training,
    takes_proximal,
)
from edgeml_client.schemas import UpdateReceipt
from edgeml_client.updates.arrays import ArrayKind, State
from edgeml_client.updates.model_file import GlobalModel
from edgeml_client.updates.streamed_delta import StreamedDelta

__all__ = ["RoundFormat", "participate"]

_LOG = logging.getLogger(__name__)

RoundFormat = Literal["auto", "pytorch", "torch", "numpy"]
"""Which arrays a training function gets."""

_KINDS: Final[Mapping[str, ArrayKind]] = {
    "auto": "auto",
    "pytorch": "torch",
    "torch": "torch",
    "numpy": "numpy",
}


def participate(round_: DeviceRound, train: LocalTrainFn, *, arrays: RoundFormat = "auto") -> UpdateReceipt:
    """Download, train, submit; see :meth:`FederatedClient.participate_in_round`.

    Raises:
        ConfigurationError: ``arrays`` is unknown, or the round's head layers match nothing.
    """
    if arrays not in _KINDS:
        raise ConfigurationError(f"format must be one of {', '.join(_KINDS)}, not {arrays!r}")
    model = round_.download()
    kind = _KINDS[arrays]
    private = private_names(model.layout.names, round_.config.head_layers or ())
    trained = run_local_training(train, model.state(kind), proximal=_proximal(round_, model, train, kind))
    received = {name: model.array(name) for name in model.layout.names}
    return round_.submit(
        StreamedDelta.between(_without(private, received), _without(private, trained.state)),
        sample_count=trained.sample_count,
        metrics=trained.metrics,
        private=private,
    )


def _without(private: Collection[str], state: State) -> State:
    return {name: value for name, value in state.items() if name not in private}


def _proximal(
    round_: DeviceRound, model: GlobalModel, train: LocalTrainFn, kind: ArrayKind
) -> ProximalTerm | None:
    mu = round_.config.proximal_mu
    if not mu:
        return None
    if not takes_proximal(train):
        _LOG.warning(
            "round %r asks for FedProx with mu=%g, but local_train_fn takes no keyword 'proximal': it trains "
            "without the term, as FedAvg",
            round_.round_id,
            mu,
        )
        return None
    return ProximalTerm(anchor=model.state(kind), strength=mu)
