"""How many training samples stand behind an update: its weight in the mean."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Final, cast

from torch.utils.data import DistributedSampler

from edgeml_client.errors import ConfigurationError

__all__ = ["Shard", "shard_of", "total_samples"]

_WAY_OUT: Final = "say it yourself: FederatedCallback(..., sample_count=...)"


@dataclass(frozen=True, slots=True)
class Shard:
    """The samples that one process draws in an epoch.

    Attributes:
        number: Which part of the data it is; processes that draw the same part have the same number. ``None``
            where the loader does not divide its data among processes.
        num_samples: How many different samples are in it.
    """

    number: int | None
    num_samples: int


def total_samples(shards: Sequence[Shard]) -> int:
    """Return the number of samples that processes draw together.

    Args:
        shards: One of each process.

    Raises:
        ConfigurationError: There are none.

    Example:
        >>> total_samples([Shard(0, 3), Shard(1, 2)]), total_samples([Shard(0, 3), Shard(0, 3)])
        (5, 3)
    """
    parts = {
        (shard.number if shard.number is not None else f"process {i}"): shard
        for i, shard in enumerate(shards)
    }
    count = sum(shard.num_samples for shard in parts.values())
    if count == 0:
        raise ConfigurationError("there are no training samples on this device")
    return count


def shard_of(loaders: object, *, max_batches: float = float("inf")) -> Shard:
    """Return the different training samples that one epoch draws from in this process.

    What a ``DistributedSampler`` repeats, so that every process has the same number of batches, counts once.

    Args:
        loaders: The Trainer's ``train_dataloader``: a ``DataLoader``, or anything with a sized ``sampler`` or
            ``dataset``.
        max_batches: How many batches an epoch has at most.

    Raises:
        ConfigurationError: It cannot be known from the loaders (several of them, or data of unknown length).
    """
    sampler = _sampler_of(loaders)
    count = next(
        (n for n in map(_length, (sampler, getattr(loaders, "dataset", None))) if n is not None), None
    )
    if count is None:
        raise ConfigurationError(
            f"the number of training samples cannot be read from {type(loaders).__name__}: {_WAY_OUT}"
        )
    number = None
    if isinstance(sampler, DistributedSampler):
        divided = cast("DistributedSampler[object]", sampler)
        number, count = divided.rank, min(count, _share(divided))
    batch_size = getattr(loaders, "batch_size", None)
    if batch_size is not None and max_batches != float("inf"):
        count = min(count, int(max_batches) * batch_size)
    return Shard(number, count)


def _sampler_of(loaders: object) -> object:
    """Return the sampler inside the batch sampler, where Lightning puts its own."""
    sampler = getattr(getattr(loaders, "batch_sampler", None), "sampler", None)
    return sampler if sampler is not None else getattr(loaders, "sampler", None)


def _share(sampler: DistributedSampler[object]) -> int:
    num_samples = _length(cast("object", sampler.dataset))
    if num_samples is None:
        return sampler.num_samples
    return len(range(sampler.rank, num_samples, sampler.num_replicas))


def _length(source: object) -> int | None:
    if not isinstance(source, Sized):
        return None
    try:
        return len(source)
    except TypeError:  # an IterableDataset may have __len__ and no length
        return None
