"""The bridge from the synchronous clients to their async twins."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

__all__ = ["in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


class _Twin(Protocol):
    """An async client; ``_sync`` is the synchronous client it stands for."""

    _sync: Any


class in_thread(Generic[P, T]):  # noqa: N801 - used like the decorator it is
    """Make a method of an async twin out of the synchronous one, with the same parameters.

    The call runs in a worker thread, so the event loop stays free; cancelling the await lets the thread
    finish what it has begun. A twin writes one line for each method, and keeps its client in ``_sync``::

        class AsyncModelRegistry:
            get_model = in_thread(ModelRegistry.get_model)
    """

    def __init__(self, method: Callable[Concatenate[Any, P], T]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, twin: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, twin: _Twin, owner: type[Any] | None = None) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(
        self, twin: _Twin | None, owner: type[Any] | None = None
    ) -> Self | Callable[P, Coroutine[Any, Any, T]]:
        """Return the coroutine function for one twin."""
        if twin is None:
            return self
        subject = twin._sync  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - twins have it for this

        @functools.wraps(self._method)
        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await asyncio.to_thread(self._method, subject, *args, **kwargs)

        return call
