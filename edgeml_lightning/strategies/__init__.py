"""Strategies: what a round does to training on the device."""

from edgeml_lightning.strategies.apfl import APFL
from edgeml_lightning.strategies.companions import Companions, NextOwn
from edgeml_lightning.strategies.ditto import Ditto
from edgeml_lightning.strategies.fedavg import FedAvg
from edgeml_lightning.strategies.fedbn import FedBN
from edgeml_lightning.strategies.fedper import FedPer
from edgeml_lightning.strategies.fedprox import FedProx
from edgeml_lightning.strategies.fedrep import FedRep
from edgeml_lightning.strategies.gradient_term import GradientTerm, proximal_term
from edgeml_lightning.strategies.personal_model import Mixing, ModelPair, PersonalModel
from edgeml_lightning.strategies.resolve import ResolvedStrategy, resolve_strategy
from edgeml_lightning.strategies.scaffold import Scaffold
from edgeml_lightning.strategies.strategy import FederatedStrategy
from edgeml_lightning.strategies.turns import Turn

__all__ = [
    "APFL",
    "Companions",
    "Ditto",
    "FedAvg",
    "FedBN",
    "FedPer",
    "FedProx",
    "FedRep",
    "FederatedStrategy",
    "GradientTerm",
    "Mixing",
    "ModelPair",
    "NextOwn",
    "PersonalModel",
    "ResolvedStrategy",
    "Scaffold",
    "Turn",
    "proximal_term",
    "resolve_strategy",
]
