"""Waiting in an endpoint for something to be true, without holding a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from starlette.concurrency import run_in_threadpool

from edgeml_server.rounds.announcements import Announcements

__all__ = ["MAX_WAIT_S", "wait_until"]

MAX_WAIT_S: Final = 30.0
"""Longer waits are cut to this: proxies and time-outs of clients end them anyway."""

_LOOK_AGAIN_S: Final = 5.0
"""An announcement of another process may be missed; this bounds how long it takes to notice."""

T = TypeVar("T")


async def wait_until(
    announcements: Announcements,
    topic: str,
    look: Callable[[], T],
    *,
    wait_s: float,
    check_caller: Callable[[], object],
) -> T:
    """Return what ``look`` returns, as soon as it is true, or at the end of the wait.

    Args:
        announcements: What tells us to look again.
        topic: The topic on which a change would be announced.
        look: Reads the database; it runs in a thread, once at least.
        wait_s: Seconds to wait at most; 0 looks once.
        check_caller: Raises if whoever waits may do so no longer, because a token was revoked, say; called
            every few seconds, in a thread.
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + min(wait_s, MAX_WAIT_S)
    with announcements.listening(topic) as listener:
        while True:
            found = await run_in_threadpool(look)
            left_s = ends_at - loop.time()
            if found or left_s <= 0 or announcements.is_closed:
                return found
            if not await listener.heard(timeout_s=min(left_s, _LOOK_AGAIN_S)):
                await run_in_threadpool(check_caller)
