"""FedPer: a shared body under a personal head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["FedPer"]


@dataclass(frozen=True)
class FedPer(FederatedStrategy):
    """Share the body; the head, its buffers and its optimizer state stay on the device.

    Arivazhagan et al., 2019, https://arxiv.org/abs/1912.00818. Until a device has a head of its own,
    it starts from the global model's, if that has one of the same shape.

    Args:
        head_layers: Paths of the head's modules, matched by whole segments (``bn1`` does not take
            ``bn10``); empty takes the round's.

    Raises:
        ConfigurationError: ``head_layers`` is one string instead of a list of strings.

    Example:
        >>> FedPer(head_layers=["classifier"]).head_layers
        ('classifier',)
    """

    name: ClassVar[str] = "fedper"
    round_fields: ClassVar[tuple[str, ...]] = ("head_layers",)

    head_layers: Sequence[str] = ()

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.head_layers, str):
            raise ConfigurationError(
                f"head_layers must be a list of paths, such as [{self.head_layers!r}], not a string"
            )
        object.__setattr__(self, "head_layers", tuple(self.head_layers))

    @override
    def private_layers(self, module: nn.Module) -> Sequence[str]:
        return self.head_layers
