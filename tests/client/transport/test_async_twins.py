from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from edgeml_client._transport.in_thread import in_thread


class Counter:
    """A synchronous client."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None

    def add(self, one: int, *, other: int = 1) -> int:
        """Return the sum."""
        self.thread = threading.current_thread()
        return one + other


class AsyncCounter:
    def __init__(self) -> None:
        self._sync = Counter()

    add = in_thread(Counter.add)


def test_a_twin_returns_what_the_synchronous_method_returns() -> None:
    assert asyncio.run(AsyncCounter().add(2, other=3)) == 5


def test_the_loop_is_not_blocked() -> None:
    twin = AsyncCounter()

    asyncio.run(twin.add(1))

    assert twin._sync.thread is not threading.current_thread()


def test_a_twin_looks_like_the_method_it_stands_for() -> None:
    twin = AsyncCounter()

    assert inspect.iscoroutinefunction(twin.add)
    assert AsyncCounter.add.__doc__ == twin.add.__doc__ == "Return the sum."


def test_errors_come_through() -> None:
    with pytest.raises(TypeError):
        asyncio.run(AsyncCounter().add("a"))  # type: ignore[arg-type]
