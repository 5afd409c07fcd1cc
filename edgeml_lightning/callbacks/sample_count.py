"""How many training samples stand behind an update: its weight in the mean."""

from __future__ import annotations

from collections.abc import Sized
from typing import Final

from edgeml_client.errors import ConfigurationError

__all__ = ["count_samples"]

_WAY_OUT: Final = "say it yourself: FederatedCallback(..., sample_count=...)"


def count_samples(loaders: object, *, max_batches: float = float("inf")) -> int:
    """Return the number of different training samples that one epoch draws from.

    Args:
        loaders: The Trainer's ``train_dataloader``: a ``DataLoader``, or anything with a sized ``sampler`` or
            ``dataset``.
        max_batches: How many batches an epoch has at most.

    Raises:
        ConfigurationError: It cannot be known from the loaders (several of them, or data of unknown length),
            or is 0.
    """
    sampler, dataset = getattr(loaders, "sampler", None), getattr(loaders, "dataset", None)
    count = next((length for length in map(_length, (sampler, dataset)) if length is not None), None)
    if count is None:
        raise ConfigurationError(
            f"the number of training samples cannot be read from {type(loaders).__name__}: {_WAY_OUT}"
        )
    batch_size = getattr(loaders, "batch_size", None)
    if batch_size is not None and max_batches != float("inf"):
        count = min(count, int(max_batches) * batch_size)
    if count == 0:
        raise ConfigurationError("there are no training samples on this device")
    return count


def _length(source: object) -> int | None:
    if not isinstance(source, Sized):
        return None
    try:
        return len(source)
    except TypeError:  # an IterableDataset may have __len__ and no length
        return None
