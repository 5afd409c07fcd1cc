"""The networks whose training steps are timed."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn
from typing_extensions import override

__all__ = ["NETWORKS", "batch_for"]

_HIDDEN: Final = {"mlp": 2048, "tiny": 16}
_IMAGE: Final = (3, 32, 32)
_NUM_CLASSES: Final = {"mlp": 10, "tiny": 10, "resnet18": 1000}


def _mlp(hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


class _Block(nn.Module):
    """Two convolutions and a way around them (He et al., 2015, https://arxiv.org/abs/1512.03385, Fig. 2)."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        stride = 1 if channels_in == channels else 2
        self.residual = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = (
            nn.Identity()
            if stride == 1
            else nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        )

    @override
    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.residual(features) + self.shortcut(features))


def _resnet18() -> nn.Module:
    channels = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        *(_Block(before, after) for before, after in itertools.pairwise(channels)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, _NUM_CLASSES["resnet18"]),
    )


NETWORKS: Final[dict[str, Callable[[], nn.Module]]] = {
    "mlp": lambda: _mlp(_HIDDEN["mlp"]),
    "resnet18": _resnet18,
    "tiny": lambda: _mlp(_HIDDEN["tiny"]),
}
"""``mlp`` has 10.0 million parameters, ``resnet18`` 11.7 million."""


def batch_for(network: str, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return random inputs and labels."""
    generator = torch.Generator().manual_seed(0)
    shape = _IMAGE if network == "resnet18" else (784,)
    inputs = torch.randn(batch_size, *shape, generator=generator)
    return inputs, torch.randint(0, _NUM_CLASSES[network], (batch_size,), generator=generator)
