"""Many federated rounds with one Lightning trainer, and what one of them hands to the next."""

from edgeml_lightning.trainer.federated_trainer import FederatedTrainer
from edgeml_lightning.trainer.history import History

__all__ = ["FederatedTrainer", "History"]
