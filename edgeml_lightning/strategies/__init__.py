"""Strategies: what a round does to training on the device."""

from edgeml_lightning.strategies.apfl import APFL
from edgeml_lightning.strategies.ditto import Ditto
from edgeml_lightning.strategies.fedavg import FedAvg
from edgeml_lightning.strategies.fedbn import FedBN
from edgeml_lightning.strategies.fedper import FedPer
from edgeml_lightning.strategies.fedprox import FedProx
from edgeml_lightning.strategies.fedrep import FedRep
from edgeml_lightning.strategies.resolve import ResolvedStrategy, resolve_strategy
from edgeml_lightning.strategies.scaffold import Scaffold
from edgeml_lightning.strategies.strategy import FederatedStrategy, Mixing

__all__ = [
    "APFL",
    "Ditto",
    "FedAvg",
    "FedBN",
    "FedPer",
    "FedProx",
    "FedRep",
    "FederatedStrategy",
    "Mixing",
    "ResolvedStrategy",
    "Scaffold",
    "resolve_strategy",
]
