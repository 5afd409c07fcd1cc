"""FedPer as a module to subclass: it names its own head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import lightning as L
from torch import nn

from edgeml_client.updates.array_names import is_under
from edgeml_lightning.naming import canonical_name

__all__ = ["FedPerModule"]


class FedPerModule(L.LightningModule):
    """A module that says which of its layers stay on the device.

    ``FederatedCallback`` shares everything else without being given a strategy. The module is an
    ordinary one otherwise; after a fit it holds the trained body under the device's own head.

    Attributes:
        head_layers: Paths of the head's modules, matched by whole segments.

    Example:
        >>> class Net(FedPerModule):
        ...     head_layers = ["classifier"]
        ...
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.body = nn.Linear(64, 32)
        ...         self.classifier = nn.Linear(32, 10)
        >>> len(list(Net().head_parameters()))
        2
    """

    head_layers: Sequence[str] = ()

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that stay on the device, for a learning rate of their own, say."""
        return (param for name, param in self.named_parameters() if self._is_head(name))

    def body_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that are shared."""
        return (param for name, param in self.named_parameters() if not self._is_head(name))

    def _is_head(self, name: str) -> bool:
        return is_under(canonical_name(name), self.head_layers)
