"""Who takes part in a round: a seeded draw that anyone with the seed can repeat."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

__all__ = ["Candidate", "draw_cohort", "num_needed"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that could take part.

    Attributes:
        device_id: The control plane's id of the device.
        device_identifier: The name its operators gave it; the draw is made in the order of these
            names, because ids differ from one run of an experiment to the next and names do not.
    """

    device_id: str
    device_identifier: str


def num_needed(*, min_updates: int, cohort_size: int | None) -> int:
    """Return how many candidates there must be before a cohort is drawn."""
    return max(min_updates, cohort_size or 1)


def draw_cohort(
    candidates: Iterable[Candidate],
    *,
    min_updates: int,
    cohort_size: int | None,
    seed: int,
    round_number: int,
) -> tuple[Candidate, ...] | None:
    """Return the cohort in the order of the identifiers, or ``None`` while there are too few.

    The same candidates, seed and round number give the same cohort, in whatever order the candidates
    come; each round of a series draws anew.

    Args:
        candidates: The devices that could take part.
        min_updates: The fewest updates with which the round will be aggregated, at least 1.
        cohort_size: How many devices to draw; ``None`` takes all of them.
        seed: The seed of the series.
        round_number: The place of this round in its series, from 1.
    """
    ordered = sorted(candidates, key=attrgetter("device_identifier", "device_id"))
    if len(ordered) < num_needed(min_updates=min_updates, cohort_size=cohort_size):
        return None
    if cohort_size is None:
        return tuple(ordered)
    rng = random.Random(_round_seed(seed, round_number))  # noqa: S311 - reproducible on purpose, not a secret
    return tuple(sorted(rng.sample(ordered, cohort_size), key=attrgetter("device_identifier", "device_id")))


def _round_seed(seed: int, round_number: int) -> int:
    """Return one seed per round; neighbouring rounds and seeds share no stream."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{round_number}".encode()).digest()[:8], "big")
