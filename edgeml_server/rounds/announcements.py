"""Telling those who wait that something happened, within one process and across threads.

An announcement carries no facts, only "look again": the database stays the one source of truth. Waiting
costs no thread, so thousands of devices may wait for their next round at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Final

__all__ = [
    "KEEPER_TOPIC",
    "Announcements",
    "AsyncListener",
    "ThreadListener",
    "device_topic",
    "round_topic",
]

KEEPER_TOPIC: Final = "keeper"
"""The topic on which the keeper hears that a round may need it."""


def device_topic(device_id: str) -> str:
    """Return the topic on which a device hears of its assignments."""
    return f"device:{device_id}"


def round_topic(round_id: str) -> str:
    """Return the topic on which a round's changes are announced."""
    return f"round:{round_id}"


class AsyncListener:
    """Hears announcements in an event loop; made by :meth:`Announcements.listening`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Let :meth:`heard` return; callable from any thread."""
        with suppress(RuntimeError):  # the loop has closed, so nobody waits any more
            self._loop.call_soon_threadsafe(self._event.set)

    async def heard(self, *, timeout_s: float) -> bool:
        """Return ``True`` at the next announcement, or if one came since the last call, else ``False``."""
        try:
            await asyncio.wait_for(self._event.wait(), timeout_s)
        except TimeoutError:
            return False
        self._event.clear()
        return True


class ThreadListener:
    """Hears announcements in a thread; made by :meth:`Announcements.listening_in_thread`."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def wake(self) -> None:
        """Let :meth:`heard` return; callable from any thread."""
        self._event.set()

    def heard(self, *, timeout_s: float) -> bool:
        """Return ``True`` at the next announcement, or if one came since the last call, else ``False``."""
        was_heard = self._event.wait(timeout_s)
        self._event.clear()
        return was_heard


class Announcements:
    """Connects those who change things with those who wait for changes.

    Listen first, look second, wait third: then no change between looking and waiting is missed.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler may close this while the thread it interrupted holds the lock.
        self._lock = threading.RLock()
        self._wakes: dict[str, list[Callable[[], None]]] = {}
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the process is going down, so that waiting longer makes no sense."""
        return self._is_closed

    @property
    def topics(self) -> frozenset[str]:
        """The topics somebody listens to."""
        with self._lock:
            return frozenset(self._wakes)

    @contextmanager
    def listening(self, topic: str) -> Generator[AsyncListener, None, None]:
        """Return a listener for the running event loop, until the block ends."""
        listener = AsyncListener()
        with self._registered(topic, listener.wake):
            yield listener

    @contextmanager
    def listening_in_thread(self, topic: str) -> Generator[ThreadListener, None, None]:
        """Return a listener for the calling thread, until the block ends."""
        listener = ThreadListener()
        with self._registered(topic, listener.wake):
            yield listener

    def announce(self, topics: Iterable[str]) -> None:
        """Wake everybody who listens to one of the topics; call it after the commit, never before."""
        with self._lock:
            wakes = [wake for topic in topics for wake in self._wakes.get(topic, ())]
        for wake in wakes:
            wake()

    def close(self) -> None:
        """Wake everybody, for good: the process is going down."""
        self._is_closed = True
        self.announce(self.topics)

    @contextmanager
    def _registered(self, topic: str, wake: Callable[[], None]) -> Generator[None, None, None]:
        with self._lock:
            self._wakes.setdefault(topic, []).append(wake)
        if self._is_closed:
            wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakes[topic].remove(wake)
                if not self._wakes[topic]:
                    del self._wakes[topic]
