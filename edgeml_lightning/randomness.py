"""The random streams of this process, to borrow and to give back."""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

__all__ = ["RandomState", "borrowed_randomness", "capture_randomness", "restore_randomness_"]


_NUMPY_WORDS: Final = 624


@dataclass(frozen=True, slots=True, repr=False)
class RandomState:
    """Where the streams of torch (CPU and current accelerator), NumPy and Python stood at one moment."""

    torch_cpu: Tensor
    torch_cuda: Tensor | None
    numpy: Any
    python: Any

    def taken_apart(self) -> tuple[dict[str, Tensor], dict[str, float | None]]:
        """Return tensors and numbers, such as files and checkpoints hold; see :meth:`put_together`."""
        _, numpy_words, position, has_gauss, gauss = self.numpy
        version, words, next_gauss = self.python
        tensors = {
            "torch_cpu": self.torch_cpu,
            "numpy": torch.tensor(list(map(int, numpy_words)), dtype=torch.int64),
            "python": torch.tensor(words, dtype=torch.int64),
        }
        if self.torch_cuda is not None:
            tensors["torch_cuda"] = self.torch_cuda
        numbers = {
            "numpy_position": float(position),
            "numpy_has_gauss": float(has_gauss),
            "numpy_gauss": float(gauss),
            "python_version": float(version),
            "python_gauss": next_gauss,
        }
        return tensors, numbers

    @classmethod
    def put_together(cls, tensors: Mapping[str, Tensor], numbers: Mapping[str, float | None]) -> RandomState:
        """Return the state that :meth:`taken_apart` took apart, perhaps with other versions of the libraries.

        Raises:
            KeyError: A part is missing.
            ValueError: The streams of this process cannot be put there.
        """
        num_words = {"numpy": _NUMPY_WORDS, "python": 625}
        if any(tensors[name].numel() != number for name, number in num_words.items()):
            raise ValueError("a stream has the wrong number of words")
        numpy_words = tensors["numpy"].numpy().astype(np.uint32)
        counts = [int(numbers[name] or 0) for name in ("numpy_position", "numpy_has_gauss", "python_version")]
        if not 0 <= counts[0] <= _NUMPY_WORDS:
            raise ValueError("NumPy's stream is at an impossible place")
        state = cls(
            torch_cpu=tensors["torch_cpu"],
            torch_cuda=tensors.get("torch_cuda"),
            numpy=("MT19937", numpy_words, counts[0], counts[1], numbers["numpy_gauss"]),
            python=(counts[2], tuple(map(int, tensors["python"])), numbers["python_gauss"]),
        )
        try:
            _try(state)
        except (TypeError, RuntimeError, OverflowError) as exc:
            raise ValueError(f"another version of Python, NumPy or torch wrote it: {exc}") from exc
        return state


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
    restore_randomness_(start)
    try:
        yield
    finally:
        restore_randomness_(before)


def restore_randomness_(state: RandomState) -> None:
    """Put the streams to where they stood when ``state`` was captured."""
    torch.set_rng_state(state.torch_cpu)
    if state.torch_cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state.torch_cuda)
    np.random.set_state(state.numpy)  # noqa: NPY002 - as above
    random.setstate(state.python)


def _try(state: RandomState) -> None:
    """Put streams of no one's to ``state``: an error comes here, and not when half of the real ones moved."""
    torch.Generator().set_state(state.torch_cpu)
    if state.torch_cuda is not None and torch.cuda.is_available():
        torch.Generator(device="cuda").set_state(state.torch_cuda)
    np.random.RandomState().set_state(state.numpy)
    random.Random().setstate(state.python)  # noqa: S311 - as above
