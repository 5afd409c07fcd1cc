"""The random streams of this process, to borrow and to give back."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["RandomState", "borrowed_randomness", "capture_randomness"]


@dataclass(frozen=True, slots=True, repr=False)
class RandomState:
    """Where the streams of torch (CPU and current accelerator), NumPy and Python stood at one moment."""

    torch_cpu: Tensor
    torch_cuda: Tensor | None
    numpy: Any
    python: Any


def capture_randomness() -> RandomState:
    """Return where all streams stand now."""
    uses_cuda = torch.cuda.is_available()
    return RandomState(
        torch_cpu=torch.get_rng_state(),
        torch_cuda=torch.cuda.get_rng_state() if uses_cuda else None,
        numpy=np.random.get_state(),  # noqa: NPY002 - the global stream, which user code may draw from
        python=random.getstate(),
    )


@contextmanager
def borrowed_randomness(start: RandomState) -> Generator[None]:
    """Run the block with the streams at ``start``, then put them back to where they stood before it.

    Example:
        >>> start = capture_randomness()
        >>> first = torch.rand(1)
        >>> with borrowed_randomness(start):
        ...     again = torch.rand(1)
        >>> bool(first == again)
        True
    """
    before = capture_randomness()
    _set(start)
    try:
        yield
    finally:
        _set(before)


def _set(state: RandomState) -> None:
    torch.set_rng_state(state.torch_cpu)
    if state.torch_cuda is not None:
        torch.cuda.set_rng_state(state.torch_cuda)
    np.random.set_state(state.numpy)  # noqa: NPY002 - as above
    random.setstate(state.python)
