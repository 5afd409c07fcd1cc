"""Modules to subclass for personalization, and the store of what a device keeps."""

from edgeml_lightning.personalization.choice import strategy_for
from edgeml_lightning.personalization.ditto_module import DittoModule
from edgeml_lightning.personalization.entry_file import PersonalKey
from edgeml_lightning.personalization.fedper_module import FedPerModule
from edgeml_lightning.personalization.optimizer_state import OptimizerState
from edgeml_lightning.personalization.personal_state import PersonalState
from edgeml_lightning.personalization.personal_store import PersonalStore
from edgeml_lightning.personalization.recall import recall
from edgeml_lightning.personalization.round_marks import Mark, RoundMarks

__all__ = [
    "DittoModule",
    "FedPerModule",
    "Mark",
    "OptimizerState",
    "PersonalKey",
    "PersonalState",
    "PersonalStore",
    "RoundMarks",
    "recall",
    "strategy_for",
]
