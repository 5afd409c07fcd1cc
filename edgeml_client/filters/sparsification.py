"""Fewer numbers: the largest of an update, or some that all devices choose alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters, rename
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.coding.random_selection import select_random
from edgeml_client.updates.coding.selection import Selected, count_to_keep, read_selected, select_largest
from edgeml_client.updates.coding.spec import CHUNK_LENGTH
from edgeml_client.updates.vector import DeltaVector, NumberSource

__all__ = ["SparsificationFilter"]

_EXACT_IN_JSON: Final = 2**53

_Fraction = Annotated[float, Field(gt=0, le=1)]
_Seed = Annotated[int, Field(ge=0, lt=_EXACT_IN_JSON)]


class Selection(FilterParameters):
    """``top_k``, or ``random_k`` with a ``seed``; both are fractions above 0 and at most 1."""

    top_k: _Fraction | None = None
    random_k: _Fraction | None = None
    seed: _Seed | None = None

    @model_validator(mode="after")
    def _one_way_to_select(self) -> Self:
        if (self.top_k is None) == (self.random_k is None):
            raise ValueError("needs 'top_k', or 'random_k' and 'seed'")
        if (self.random_k is None) != (self.seed is None):
            raise ValueError("needs 'seed' with 'random_k' and only there: the devices share it")
        return self


class SparsificationFilter(VectorFilter):
    r"""``sparsification{top_k}`` or ``sparsification{random_k, seed}``: keep some numbers, zero the others.

    Exactly ``ceil(fraction * n)`` of the ``n`` numbers of the *whole* update are kept.

    *Top-k* (Aji and Heafield, 2017, https://arxiv.org/abs/1704.05021) keeps the largest, and among equals
    those that come first in the order of array names and then of positions.

    *Random-k* with a shared seed (the random mask of Konecny et al., 2016, https://arxiv.org/abs/1610.05492,
    section 2; rand-k in Stich et al., 2018, https://arxiv.org/abs/1809.07599, Definition 2.1) keeps numbers
    chosen without a look at them: the same ones on every device, and other ones in each round. They are not
    scaled by :math:`n / k`, so no norm grows, a clip before it holds on, and error feedback works. Without
    error feedback the global model moves :math:`k / n` of the way in expectation.

    On its own either loses most of an update's norm: devices that use it round after round should carry what
    was dropped over to the next round (``error_feedback``).

    Args:
        top_k: The fraction of the largest to keep, above 0 and at most 1. Configs may say ``top_k_percent``.
        random_k: The fraction to keep at random.
        seed: The choice is made from it and from the round; the same on all devices, 0 to 2^53 - 1.
    """

    filter_type = "sparsification"
    parameters_type = Selection

    def __init__(
        self, top_k: float | None = None, *, random_k: float | None = None, seed: int | None = None
    ) -> None:
        super().__init__(top_k=top_k, random_k=random_k, seed=seed)
        self.top_k = top_k
        self.random_k = random_k
        self.seed = seed
        self.effects = FilterEffects(
            sensitivity=Sensitivity.KEEPS,
            sparsity=Sparsity.SELECTS_RANDOM if top_k is None else Sparsity.SELECTS_LARGEST,
            bits_per_number=None,
        )
        self._round_id = ""

    @classmethod
    @override
    def _canonical(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        percent = values.get("top_k_percent")
        if isinstance(percent, int | float) and not isinstance(percent, bool):
            values = {**values, "top_k_percent": percent / 100}
        top_k = values.get("top_k")
        if isinstance(top_k, int | float) and top_k > 1:
            raise FilterConfigError(
                f"filter {cls.filter_type!r}: top_k = {top_k!r} is no fraction in (0, 1]; "
                "to give percent, write 'top_k_percent'"
            )
        ours = "random_k" if "random_k" in values else "top_k"  # SDKs without random-k are told a percentage
        return rename(values, old="top_k_percent", new=ours, filter_type=cls.filter_type)

    @override
    def for_round(self, round_id: str) -> SparsificationFilter:
        bound = copy(self)
        bound._round_id = round_id  # noqa: SLF001 - a copy of this very object
        return bound

    def select(self, source: NumberSource) -> Iterator[Selected]:
        """Yield for each chunk of an update the numbers that stay."""
        size = source.layout.size
        if self.random_k is None or self.seed is None:
            return select_largest(source, count=count_to_keep(size, self.top_k or 1.0))
        count = count_to_keep(size, self.random_k)
        return read_selected(
            source, select_random(size, count=count, seed=self.seed, round_id=self._round_id)
        )

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        for number, kept in enumerate(self.select(vector)):
            chunk = vector.values[number * CHUNK_LENGTH : (number + 1) * CHUNK_LENGTH]
            chunk.fill(0)
            chunk[kept.positions] = kept.values
