"""Split a labelled data set over devices so that each sees few of the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeml_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["label_shards", "split_fractions"]


def label_shards(
    labels: ArrayLike, *, num_devices: int, shards_per_device: int = 2, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return the indices each device owns: disjoint, together everything, few labels each.

    The pathological non-IID partition of FedAvg (McMahan et al., 2017,
    https://arxiv.org/abs/1602.05629, section 3): sort the samples by label, cut them into
    ``num_devices * shards_per_device`` shards of equal size (to within one sample), and deal every device
    ``shards_per_device`` of them at random.

    Args:
        labels: One label a sample, in one dimension.
        num_devices: At least 1.
        shards_per_device: At least 1; the fewer, the fewer labels a device sees.
        rng: Decides the order of samples within a label and which device gets which shards.

    Raises:
        ConfigurationError: A number is less than 1, or there are fewer samples than shards.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> parts = label_shards([0, 1, 0, 1], num_devices=2, shards_per_device=1, rng=rng)
        >>> sorted(sorted(part.tolist()) for part in parts)
        [[0, 2], [1, 3]]
    """
    flat = np.asarray(labels)
    num_shards = num_devices * shards_per_device
    if num_devices < 1 or shards_per_device < 1:
        raise ConfigurationError("num_devices and shards_per_device must be at least 1")
    if flat.ndim != 1 or len(flat) < num_shards:
        raise ConfigurationError(
            f"labels of shape {flat.shape} cannot fill {num_shards} shards: "
            "pass one label a sample, and use fewer devices or shards"
        )
    mixed = rng.permutation(len(flat))
    by_label = mixed[np.argsort(flat[mixed], kind="stable")]
    shards: list[NDArray[np.int64]] = np.array_split(by_label, num_shards)
    hands: list[list[int]] = rng.permutation(num_shards).reshape(num_devices, shards_per_device).tolist()
    return [np.concatenate([shards[number] for number in hand]) for hand in hands]


def split_fractions(
    indices: NDArray[np.int64], *, fractions: Sequence[float], rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return ``indices`` in random order, cut into disjoint parts of the given fractions.

    Args:
        indices: What to split, in one dimension.
        fractions: Each in (0, 1], together 1: ``(0.6, 0.2, 0.2)`` for training, validation and test.
        rng: Decides the order.

    Raises:
        ConfigurationError: The fractions do not add up to 1, or one is not in (0, 1].
    """
    if not all(0 < fraction <= 1 for fraction in fractions) or not np.isclose(sum(fractions), 1.0):
        raise ConfigurationError(f"fractions {tuple(fractions)} must lie in (0, 1] and add up to 1")
    ends = np.rint(np.cumsum(fractions)[:-1] * len(indices)).astype(np.int64)
    return np.split(rng.permutation(indices), ends)
