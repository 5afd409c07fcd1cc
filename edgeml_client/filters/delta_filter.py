"""What every filter is: something that maps a delta to a delta of the same names and shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Self

from pydantic import JsonValue

from edgeml_client.filters.effects import FilterEffects
from edgeml_client.updates.layout import Layout

__all__ = ["DataKind", "DeltaFilter", "FilterConfig"]

FilterConfig = Mapping[str, Any]
"""A filter as a round's config spells it: ``{"type": "gradient_clip", "max_norm": 1.0}``."""


class DataKind(StrEnum):
    """What a filter may be applied to."""

    WEIGHTS = "weights"
    WEIGHT_DIFF = "weight_diff"
    METRICS = "metrics"
    ANY = "any"


class DeltaFilter(ABC):
    """A step between training and upload; subclass it and register the subclass under a name.

    Attributes:
        supported_data_kinds: The kinds of data it may touch; ``None`` means all. Other kinds skip it.
        effects: What it does to sensitivity, sparsity and bytes; by default it promises nothing. The order of
            filters is checked from this, and the norm and the zeros that it speaks of are held against what
            it did: a filter that breaks its word sends nothing.

    Example:
        >>> from edgeml_client import DeltaFilter, FilterRegistry, apply_filters
        >>> import numpy as np
        >>> class Halve(DeltaFilter):
        ...     def process(self, delta, config=None):
        ...         return {name: array * 0.5 for name, array in delta.items()}
        >>> FilterRegistry.register("halve", Halve)
        >>> apply_filters({"w": np.array([2.0, 4.0])}, [{"type": "halve"}])["w"].tolist()
        [1.0, 2.0]
        >>> FilterRegistry.unregister("halve")
        True
    """

    supported_data_kinds: ClassVar[Sequence[DataKind] | None] = None
    effects: FilterEffects = FilterEffects()

    @classmethod
    def from_config(cls, config: FilterConfig) -> Self:
        """Return the filter that ``config`` describes; by default one without arguments.

        ``config`` is also handed to :meth:`process`, so a subclass need not override this.
        """
        del config
        return cls()

    def for_round(self, round_id: str) -> DeltaFilter:
        """Return the filter as it works in one round; by default it is the same in all of them."""
        del round_id
        return self

    def check_layout(self, layout: Layout) -> None:
        """Return if the filter can work on a model with these arrays; by default it always can.

        Raises:
            FilterConfigError: It cannot.
        """
        del layout

    @property
    def name(self) -> str:
        """The name shown in logs, and in the audit trail unless the class is registered under another."""
        return type(self).__name__

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """What the audit trail records about this filter, beside its type."""
        return {}

    @abstractmethod
    def process(self, delta: dict[str, Any], config: FilterConfig | None = None) -> dict[str, Any] | None:
        """Return the filtered delta, with the names and shapes of ``delta``.

        Args:
            delta: The floating arrays by name, as the caller has them: torch tensors or NumPy arrays. In a
                pipeline they are float32 views of one private vector, so writing to them is safe, and so is
                putting others in their place.
            config: The round's entry for this filter; ``None`` when the filter was passed as an object.

        Returns:
            The new arrays, or ``None`` when ``delta`` itself is the result.
        """


def applies_to(step: DeltaFilter, kind: DataKind) -> bool:
    """Return whether a filter may be applied to data of this kind."""
    supported = step.supported_data_kinds
    return not supported or kind in supported or DataKind.ANY in supported
