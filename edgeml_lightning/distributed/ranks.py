"""What the processes of one training do together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

from torch import Tensor, nn

__all__ = ["Ranks"]

_Value = TypeVar("_Value")


class Ranks(Protocol):
    """The processes ("ranks") that train one model together as one device of a federation.

    The first of them alone talks to the network and to the disk; what it learns, the others are told. Every
    method is called by all of them, in the same order. Whatever goes wrong in one of them, goes wrong in all:
    none is left waiting for another that has given up.
    """

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that talks to the network."""
        ...

    def on_first(self, work: Callable[[], _Value]) -> _Value:
        """Do ``work`` in the first process, once all have come this far, and return its result in each.

        The others wait for as long as it takes. They get a copy of the result.

        Raises:
            Exception: What ``work`` raised, in every process.
            ProcessLostError: Another process ended.
        """
        ...

    def on_every(self, work: Callable[[], _Value]) -> _Value:
        """Do ``work`` in every process, and return each one's own result once all have succeeded.

        ``work`` must not wait for another process.

        Raises:
            Exception: What ``work`` raised here, or else what it raised in the first process that failed.
            ProcessLostError: Another process ended.
        """
        ...

    def gather(self, value: _Value) -> list[_Value]:
        """Return the values of all processes, in the order of their ranks."""
        ...

    def whole(self, arrays: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return unsharded arrays in the first process, and nothing in the others."""
        ...

    def load_(self, module: nn.Module, arrays: Mapping[str, Tensor]) -> None:
        """Copy the first process's ``arrays`` into the module of every process, in place.

        Args:
            module: The model, the same in every process; its parameters may be sharded.
            arrays: Whole arrays by canonical name. Those of the other processes are not looked at.

        Raises:
            ModelMismatchError: The module has no array of a name, or its shape differs.
        """
        ...

    def average_gradients_(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the processes, as ``DistributedDataParallel`` does."""
        ...

    def follow_buffers_(self, module: nn.Module) -> None:
        """Give every process the first one's buffers, as ``DistributedDataParallel`` does."""
        ...
