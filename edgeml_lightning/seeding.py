"""Random numbers that depend on what is done, not on what was done before."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch

from edgeml_lightning.randomness import borrowed_randomness, capture_randomness

__all__ = ["seeded"]


@contextmanager
def seeded(*key: int) -> Generator[None]:
    """Run the block with the streams of torch, NumPy and Python seeded by ``key``; then put them back.

    Different keys give independent streams, however close the numbers are.

    Args:
        *key: Numbers of at least 0, such as a seed, a round and a device.

    Example:
        >>> with seeded(7, 1):
        ...     first = torch.rand(1)
        >>> with seeded(7, 1):
        ...     again = torch.rand(1)
        >>> bool(first == again)
        True
    """
    number = int(np.random.SeedSequence(key).generate_state(1)[0])
    with borrowed_randomness(capture_randomness()):
        torch.manual_seed(number)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
        np.random.seed(number)  # noqa: NPY002 - the global stream, which user code may draw from
        random.seed(number)
        yield
