"""What a device does in a round, decided in pure code."""

from edgeml_client.rounds.ditto import DittoResult, train_ditto
from edgeml_client.rounds.fedper import private_names, train_fedper
from edgeml_client.rounds.local_training import LocalTrainFn, ProximalTerm, ProximalTrainFn
from edgeml_client.rounds.progress import RoundProgress, RoundStep

__all__ = [
    "DittoResult",
    "LocalTrainFn",
    "ProximalTerm",
    "ProximalTrainFn",
    "RoundProgress",
    "RoundStep",
    "private_names",
    "train_ditto",
    "train_fedper",
]
