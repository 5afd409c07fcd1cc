"""The bridge from the synchronous clients to their async twins."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

__all__ = ["in_thread"]

P = ParamSpec("P")
T = TypeVar("T")
Sync = TypeVar("Sync")


def in_thread(method: Callable[Concatenate[Sync, P], T], subject: Sync) -> Callable[P, Awaitable[T]]:
    """Return ``subject.method`` as a coroutine function with the same parameters.

    The call runs in a worker thread, so the event loop stays free; cancelling the await lets the thread
    finish what it has begun. An async twin writes one line for each method::

        async def get_model(self, model_id: str) -> Model:
            return await in_thread(ModelRegistry.get_model, self._sync)(model_id)
    """

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return asyncio.to_thread(method, subject, *args, **kwargs)

    return call
