"""The models that are measured: state dicts shaped like a ResNet-18, in five sizes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

__all__ = ["SIZES", "num_parameters", "numpy_state", "resnet18_shapes", "states"]

SIZES: Final = {
    "tiny": (2, 10),
    "1M": (18, 1000),
    "11M": (64, 1000),
    "100M": (190, 1000),
    "250M": (302, 1000),
}
"""Channels of the first layer and number of classes; 11M is torchvision's ResNet-18 itself, 11.7 million."""

_BLOCKS_PER_STAGE: Final = 2
_BASE_SCALE: Final = 0.05
_UPDATE_SCALE: Final = 0.002


def resnet18_shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of all floating arrays, batch normalization's running statistics included."""
    width, num_classes = SIZES[size]
    shapes = {"conv1.weight": (width, 3, 7, 7), **_norm("bn1", width)}
    channels_in = width
    for stage in range(4):
        channels = width * 2**stage
        for block in range(_BLOCKS_PER_STAGE):
            prefix = f"layer{stage + 1}.{block}"
            shapes[f"{prefix}.conv1.weight"] = (channels, channels_in, 3, 3)
            shapes |= _norm(f"{prefix}.bn1", channels)
            shapes[f"{prefix}.conv2.weight"] = (channels, channels, 3, 3)
            shapes |= _norm(f"{prefix}.bn2", channels)
            if channels != channels_in:
                shapes[f"{prefix}.downsample.0.weight"] = (channels, channels_in, 1, 1)
                shapes |= _norm(f"{prefix}.downsample.1", channels)
            channels_in = channels
    return {**shapes, "fc.weight": (num_classes, channels_in), "fc.bias": (num_classes,)}


def _norm(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def num_parameters(size: str) -> int:
    """Return how many numbers a model of this size holds."""
    return sum(math.prod(shape) for shape in resnet18_shapes(size).values())


def states(size: str, *, seed: int = 0) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a global model and the same model after some local training, as torch state dicts."""
    import torch  # noqa: PLC0415 - naming the sizes needs no torch

    generator = torch.Generator().manual_seed(seed)
    base = {
        name: torch.randn(shape, generator=generator) * _BASE_SCALE
        for name, shape in resnet18_shapes(size).items()
    }
    updated = {
        name: value + torch.randn(value.shape, generator=generator) * _UPDATE_SCALE
        for name, value in base.items()
    }
    return base, updated


def numpy_state(size: str, *, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Return a global model as NumPy arrays, for processes that do without torch."""
    import numpy as np  # noqa: PLC0415 - as above

    generator = np.random.default_rng(seed)
    return {
        name: generator.standard_normal(shape, dtype=np.float32) * np.float32(_BASE_SCALE)
        for name, shape in resnet18_shapes(size).items()
    }
