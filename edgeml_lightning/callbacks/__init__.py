"""Callbacks that turn a Lightning fit into a federated round."""

from edgeml_lightning.callbacks.federated_callback import FederatedCallback
from edgeml_lightning.callbacks.round_record import RoundRecord

__all__ = ["FederatedCallback", "RoundRecord"]
