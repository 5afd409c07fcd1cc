"""A training in one process: there is nobody to tell, and nobody to wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from torch import Tensor, nn
from typing_extensions import override

from edgeml_lightning.distributed.ranks import Ranks
from edgeml_lightning.exchange import load_global_

__all__ = ["LocalRanks"]

_Value = TypeVar("_Value")


class LocalRanks(Ranks):
    """One process. Everything is done here and at once.

    Example:
        >>> LocalRanks().on_first(lambda: "assigned")
        'assigned'
    """

    @property
    @override
    def is_first(self) -> bool:
        return True

    @override
    def on_first(self, work: Callable[[], _Value]) -> _Value:
        return work()

    @override
    def on_every(self, work: Callable[[], _Value]) -> _Value:
        return work()

    @override
    def gather(self, value: _Value) -> list[_Value]:
        return [value]

    @override
    def whole(self, arrays: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return arrays

    @override
    def load_(self, module: nn.Module, arrays: Mapping[str, Tensor]) -> None:
        load_global_(module, arrays)

    @override
    def average_gradients_(self, parameters: Iterable[Tensor]) -> None:
        """Leave the gradients as they are: they are their own mean."""

    @override
    def follow_buffers_(self, module: nn.Module) -> None:
        """Leave the buffers as they are: they are the first process's."""
