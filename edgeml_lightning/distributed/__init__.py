"""The processes that train one model together, and how they agree on what the network said."""

from edgeml_lightning.distributed.local import LocalRanks
from edgeml_lightning.distributed.ranks import Ranks

__all__ = ["LocalRanks", "Ranks"]
