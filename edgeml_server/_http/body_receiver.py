"""The body of a request, read from its socket into memory that is used again and again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from starlette.requests import ClientDisconnect
from typing_extensions import override

from edgeml_server._http.silence import SilentSenderError

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["PIECE_BYTES", "BodyReceiver"]

PIECE_BYTES: Final = 1 << 19
"""What is handed on at a time. Two of them are held, so that one is filled while the other is written."""


class BodyReceiver(asyncio.BufferedProtocol):
    """Takes the place of a connection's protocol until the body has come, and then gives it back.

    Args:
        http: The protocol whose place this takes.
        begun: What has come of the body already.
        num_bytes: How much is still to come, at least one byte.
        on_end: Told in the end how many bytes of it were not taken.
    """

    def __init__(
        self, http: H11Protocol, begun: bytes, *, num_bytes: int, on_end: Callable[[int], None]
    ) -> None:
        self._http = http
        self._begun = begun
        self._num_left = num_bytes
        self._on_end = on_end
        # Not zeroed: a sender that sends nothing takes no memory.
        self._free = deque(np.empty(PIECE_BYTES, np.uint8).data for _ in range(2))
        self._full: deque[tuple[memoryview, int]] = deque()
        self._num_filled = 0
        self._came = asyncio.Event()
        self._is_lost = False
        http.transport.set_protocol(self)
        http.flow.resume_reading()

    async def pieces(self, *, silence_s: float) -> AsyncGenerator[memoryview]:
        """Yield the body; each piece is overwritten once the next one was asked for.

        Args:
            silence_s: How long nothing may come.

        Raises:
            SilentSenderError: Nothing came for so long.
            ClientDisconnect: The sender went away.
        """
        try:
            yield memoryview(self._begun)
            while self._num_left or self._full:
                await self._piece_came(silence_s)
                buffer, length = self._full.popleft()
                yield buffer[:length]
                self._free.append(buffer)
                if self._num_left:
                    self._http.flow.resume_reading()
        finally:
            self._give_back()

    async def _piece_came(self, silence_s: float) -> None:
        """Wait until there is a piece; anything that comes begins the patience anew."""
        while not self._full:
            if self._is_lost:
                raise ClientDisconnect
            self._came.clear()
            try:
                async with asyncio.timeout(silence_s):
                    await self._came.wait()
            except TimeoutError as exc:
                raise SilentSenderError(silence_s) from exc

    def _give_back(self) -> None:
        self._on_end(self._num_left)
        if not self._is_lost:
            self._http.transport.set_protocol(self._http)
            self._http.flow.resume_reading()

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: never more than belong to this body."""
        return self._free[0][self._num_filled : self._num_filled + self._num_left]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        """Hand on what was filled, and stop reading when nothing is free."""
        self._num_filled += nbytes
        self._num_left -= nbytes
        if self._num_filled == PIECE_BYTES or not self._num_left:
            self._full.append((self._free.popleft(), self._num_filled))
            self._num_filled = 0
            if not self._num_left or not self._free:
                self._http.flow.pause_reading()
        self._came.set()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Let whoever waits know, and the protocol whose place this is."""
        self._is_lost = True
        self._came.set()
        self._http.connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        """Pass it on."""
        self._http.pause_writing()

    @override
    def resume_writing(self) -> None:
        """Pass it on."""
        self._http.resume_writing()
