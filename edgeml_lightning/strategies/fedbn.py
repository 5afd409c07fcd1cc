"""FedBN: normalization layers stay on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from torch import nn
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_client.updates.array_names import is_under
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import modules_by_path
from edgeml_lightning.norm_layers import BatchOrInstanceNorm
from edgeml_lightning.strategies.strategy import FederatedStrategy

__all__ = ["NORMALIZATION_LAYERS", "FedBN"]

NORMALIZATION_LAYERS: Final[tuple[type[nn.Module], ...]] = (
    BatchOrInstanceNorm,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
"""torch's own: BatchNorm, SyncBatchNorm and InstanceNorm of any dimension, LayerNorm, GroupNorm, RMSNorm."""


@dataclass(frozen=True)
class FedBN(FederatedStrategy):
    """Share everything but the normalization layers: their parameters and statistics stay on the device.

    Li et al., 2021, https://arxiv.org/abs/2102.07623, Algorithm 1. Layers are found by their type, not by
    their name. The paper's are BatchNorm; to keep to it, pass ``layer_types=(nn.BatchNorm2d,)``.

    Args:
        layer_types: Which modules stay, their subclasses included; by default :data:`NORMALIZATION_LAYERS`.

    Raises:
        ConfigurationError: ``layer_types`` is empty or holds what is no module class; at the start of a
            round, the model has no such layer.

    Example:
        >>> FedBN().private_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
        ('1',)
    """

    name: ClassVar[str] = "fedbn"

    layer_types: Sequence[type[nn.Module]] = NORMALIZATION_LAYERS

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = (self.layer_types,) if isinstance(self.layer_types, type) else tuple(self.layer_types)
        if not kinds or not all(map(_is_module_class, kinds)):
            raise ConfigurationError(
                f"layer_types must be module classes such as (nn.BatchNorm2d,), not {self.layer_types!r}"
            )
        object.__setattr__(self, "layer_types", kinds)

    @override
    def private_layers(self, module: nn.Module) -> Sequence[str]:
        arrays = model_state(module)
        found = [
            path for path, child in modules_by_path(module) if isinstance(child, tuple(self.layer_types))
        ]
        layers = tuple(layer for layer in found if any(is_under(name, [layer]) for name in arrays))
        if not layers:
            kinds = ", ".join(kind.__name__.removeprefix("_") for kind in self.layer_types)
            raise ConfigurationError(
                f"{type(module).__name__} has no layer with arrays of the types {kinds}, so FedBN would keep "
                "nothing: use FedAvg(), or name your own normalization class in layer_types"
            )
        return layers


def _is_module_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, nn.Module)
