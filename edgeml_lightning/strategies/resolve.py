"""Whose strategy a round follows: the user's, or the one its configuration chooses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import RoundConfig
from edgeml_client.wording import quoted
from edgeml_lightning.strategies.apfl import APFL
from edgeml_lightning.strategies.ditto import Ditto
from edgeml_lightning.strategies.fedavg import FedAvg
from edgeml_lightning.strategies.fedbn import FedBN
from edgeml_lightning.strategies.fedper import FedPer
from edgeml_lightning.strategies.fedprox import FedProx
from edgeml_lightning.strategies.fedrep import FedRep
from edgeml_lightning.strategies.scaffold import Scaffold
from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["ResolvedStrategy", "resolve_strategy"]

_KNOWN: Final = (FedAvg, FedProx, Ditto, FedPer, FedRep, FedBN, APFL, Scaffold)
_LONGEST_NAME: Final = 80
_BY_NAME: Final = MappingProxyType({kind.name: kind for kind in _KNOWN})

_BY_FIELD: Final[tuple[tuple[str, type[FederatedStrategy]], ...]] = (
    ("head_epochs", FedRep),
    ("head_layers", FedPer),
    ("lambda_ditto", Ditto),
    ("mixing_alpha", APFL),
    ("proximal_mu", FedProx),
)
"""The first of these that a round gives chooses the strategy of a round that names none."""


@dataclass(frozen=True, slots=True)
class ResolvedStrategy:
    """A strategy with nothing left open.

    Attributes:
        strategy: What the round does.
        conflicts: What the round had asked for and the user decided otherwise, a line each.
    """

    strategy: FederatedStrategy
    conflicts: tuple[str, ...] = ()


def resolve_strategy(user: FederatedStrategy | None, round_config: RoundConfig) -> ResolvedStrategy:
    """Return the strategy of a round: explicit arguments of the user win over its configuration.

    Args:
        user: The user's strategy; what it leaves open is taken from the round. ``None`` takes the round's.
        round_config: What the round asks for. Without ``strategy`` in it, its parameters choose:
            ``head_epochs`` means FedRep, ``head_layers`` FedPer, ``lambda_ditto`` Ditto,
            ``mixing_alpha`` APFL, ``proximal_mu`` FedProx, none FedAvg.

    Raises:
        ConfigurationError: The round asks for a strategy that is not known here, or an
            argument was given by nobody.

    Example:
        >>> resolve_strategy(Ditto(), RoundConfig(lambda_ditto=0.5)).strategy.lambda_ditto
        0.5
    """
    asked = round_config.strategy
    if user is None:
        return ResolvedStrategy(_filled(_chosen_by(round_config), round_config))
    conflicts = _conflicts(user, round_config)
    if asked is not None and asked != user.name:
        mine, theirs = user.name or type(user).__name__, asked[:_LONGEST_NAME]
        conflicts = (
            f"the strategy is {mine} here and {theirs} in the round",
            *conflicts,
        )
    return ResolvedStrategy(_filled(user, round_config), conflicts)


def _chosen_by(config: RoundConfig) -> FederatedStrategy:
    if config.strategy is not None:
        if config.strategy not in _BY_NAME:
            raise ConfigurationError(
                f"the round asks for strategy {quoted(config.strategy)}; known are {', '.join(_BY_NAME)}. "
                "Update edgeml-lightning, or choose a strategy yourself"
            )
        return _BY_NAME[config.strategy]()
    return next((kind() for name, kind in _BY_FIELD if getattr(config, name) not in {None, ()}), FedAvg())


def _filled(strategy: FederatedStrategy, config: RoundConfig) -> FederatedStrategy:
    """Return a strategy with what the user left open taken from the round."""
    names = (*strategy.round_fields, *strategy.optional_round_fields)
    wanted = {name: getattr(config, name) for name in names if _is_open(getattr(strategy, name))}
    given = {name: value for name, value in wanted.items() if not _is_open(value)}
    if missing := [name for name in strategy.round_fields if name in wanted.keys() - given.keys()]:
        raise ConfigurationError(
            f"{type(strategy).__name__} needs {missing[0]}: give it here, or in the round's configuration"
        )
    return replace(strategy, **given) if given else strategy


def _conflicts(user: FederatedStrategy, config: RoundConfig) -> tuple[str, ...]:
    """Return one line for each explicit argument that differs from the round's."""
    names = (*user.round_fields, *user.optional_round_fields)
    pairs = [(name, getattr(user, name), getattr(config, name)) for name in names]
    return tuple(
        f"{name} is {quoted(mine)} here and {quoted(theirs)} in the round"
        for name, mine, theirs in pairs
        if not _is_open(mine) and theirs is not None and mine != theirs
    )


def _is_open(value: object) -> bool:
    return value is None or value == ()
