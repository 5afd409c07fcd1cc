"""The non-IID partition of FedAvg."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.label_shards import label_shards, split_fractions

LABELS = np.repeat(np.arange(10), 18)  # 180 samples: 20 shards of 9, two to a label


def _deal(seed: int) -> list[np.ndarray]:
    return label_shards(LABELS, num_devices=10, shards_per_device=2, rng=np.random.default_rng(seed))


def test_every_sample_belongs_to_exactly_one_device() -> None:
    together = np.concatenate(_deal(0))

    assert sorted(together.tolist()) == list(range(180))


def test_a_device_sees_at_most_as_many_labels_as_it_has_aligned_shards() -> None:
    """Each label fills two whole shards here, so a shard holds one label and a device at most two."""
    assert all(len(np.unique(LABELS[part])) <= 2 for part in _deal(0))


def test_shards_are_of_equal_size() -> None:
    assert {len(part) for part in _deal(0)} == {18}


def test_the_same_seed_deals_the_same_shards() -> None:
    first, again, other = _deal(1), _deal(1), _deal(2)

    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "sizes", [{"num_devices": 0}, {"num_devices": 91}, {"num_devices": 1, "shards_per_device": 0}]
)
def test_what_cannot_be_dealt_is_refused(sizes: dict[str, int]) -> None:
    """91 devices with two shards each ask for 182 shards of 180 samples."""
    with pytest.raises(ConfigurationError):
        label_shards(LABELS, rng=np.random.default_rng(0), **sizes)


def test_labels_must_be_one_a_sample() -> None:
    with pytest.raises(ConfigurationError, match=r"shape \(2, 90\)"):
        label_shards(LABELS.reshape(2, 90), num_devices=2, rng=np.random.default_rng(0))


def test_a_split_is_disjoint_and_complete() -> None:
    parts = split_fractions(np.arange(90), fractions=(0.6, 0.2, 0.2), rng=np.random.default_rng(0))

    assert [len(part) for part in parts] == [54, 18, 18]
    assert sorted(np.concatenate(parts).tolist()) == list(range(90))


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.5, -0.5), (1.0, 0.0)])
def test_fractions_must_make_a_whole(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigurationError, match="add up to 1"):
        split_fractions(np.arange(10), fractions=fractions, rng=np.random.default_rng(0))
