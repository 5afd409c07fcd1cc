"""A limit on how long a sender may be silent in the middle of a body."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from starlette.types import Message, Receive

__all__ = ["SilentSenderError", "impatient"]


class SilentSenderError(HTTPException):
    """The body stopped coming; answered with 408, after which the connection is closed."""

    def __init__(self, limit_s: float) -> None:
        detail = f"nothing of the body came for {limit_s:g} s; send it again"
        super().__init__(HTTPStatus.REQUEST_TIMEOUT, detail=detail, headers={"Connection": "close"})


def impatient(receive: Receive, limit_s: float) -> Receive:
    """Return ``receive``, but with an end to the wait for each part of the body.

    After the body's last part there is no limit any more: from then on, the server waits on itself.

    Raises:
        SilentSenderError: By the returned function, when ``limit_s`` seconds passed without a part.
    """
    is_complete = False

    async def receive_in_time() -> Message:
        nonlocal is_complete
        if is_complete:
            return await receive()
        try:
            async with asyncio.timeout(limit_s):
                message = await receive()
        except TimeoutError as exc:
            raise SilentSenderError(limit_s) from exc
        is_complete = not message.get("more_body", False)
        return message

    return receive_in_time
