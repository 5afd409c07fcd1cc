"""Which arrays take part in an update at all, by name."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Final

import numpy as np
from pydantic import Field
from typing_extensions import override

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters.effects import FilterEffects, Sensitivity, Sparsity
from edgeml_client.filters.parameters import FilterParameters
from edgeml_client.filters.vector_filter import VectorFilter
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.vector import DeltaVector
from edgeml_client.wording import quoted

__all__ = ["ExcludeFilter", "OnlyFilter", "is_named"]

_MAX_LISTED: Final = 20

_Pattern = Annotated[str, Field(min_length=1)]


class Names(FilterParameters):
    """``names``, at least one: array names, module paths, or glob patterns of either."""

    names: Annotated[tuple[_Pattern, ...], Field(min_length=1, strict=False)]


def is_named(name: str, patterns: Sequence[str]) -> bool:
    """Return whether an array is one of those that ``patterns`` name.

    A pattern is the name of an array, or the path of a module, which stands for all arrays below it, by
    whole segments. ``*``, ``?`` and ``[...]`` are wildcards, as in file names; ``*`` also matches dots.

    Example:
        >>> [is_named("bn10.weight", [pattern]) for pattern in ("bn10", "bn1", "bn*", "*.weight")]
        [True, False, True, True]
    """
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns)


class _ByNameFilter(VectorFilter):
    """Sets arrays to zero by name."""

    parameters_type = Names
    effects = FilterEffects(sensitivity=Sensitivity.KEEPS, sparsity=Sparsity.ADDS, bits_per_number=None)

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names=names)
        self.names = tuple(names)

    @override
    def check_layout(self, layout: Layout) -> None:
        """Return if each of the names is that of an array that can be in an update.

        Raises:
            FilterConfigError: One of them matches none; the message lists the arrays.
        """
        arrays = layout.floating.names
        for pattern in self.names:
            if not any(is_named(name, (pattern,)) for name in arrays):
                raise FilterConfigError(
                    f"filter {self.filter_type!r}: {quoted(pattern)} matches no floating array of the model; "
                    f"these are: {', '.join(arrays[:_MAX_LISTED])}"
                    f"{' ...' if len(arrays) > _MAX_LISTED else ''}"
                )

    @override
    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        for name, view in vector.items():
            if not self._keeps(name):
                view.fill(0)

    @abstractmethod
    def _keeps(self, name: str) -> bool: ...


class ExcludeFilter(_ByNameFilter):
    """``exclude{names}``: the arrays with these names do not change.

    They stay in the update as zeros, which a coded update does not send. So a weighted mean stays one: a
    device that excludes an array counts as one that has not changed it. To leave a device out of the mean of
    an array, keep that array private instead (FedPer's head).

    Args:
        names: Array names, module paths, or glob patterns of either; see :func:`is_named`.
    """

    filter_type = "exclude"

    @override
    def _keeps(self, name: str) -> bool:
        return not is_named(name, self.names)


class OnlyFilter(_ByNameFilter):
    """``only{names}``: no other arrays than those with these names change; see :class:`ExcludeFilter`.

    Args:
        names: Array names, module paths, or glob patterns of either; see :func:`is_named`.
    """

    filter_type = "only"

    @override
    def _keeps(self, name: str) -> bool:
        return is_named(name, self.names)
