"""How bytes get between sockets and the application: as uvicorn does it, but large bodies without the copies.

A model or an update has tens of megabytes. On its way through the parser and the messages of ASGI each byte
is copied six times, in the one thread that all devices share. Here a file leaves by ``sendfile``, and the
body of an upload is read from the socket into the memory it is written from. Everything else, and every
request that this cannot serve, goes the ordinary way.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edgeml_server._http.body_receiver import BodyReceiver

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send
    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

__all__ = ["TAKE_BODY", "LargeBodyProtocol"]

_SEND_FILE: Final = "http.response.pathsend"
"""ASGI's own extension: https://asgi.readthedocs.io/en/latest/extensions.html#path-send."""

TAKE_BODY: Final = "edgeml.take_body"
"""Our extension: a function that returns a :class:`BodyReceiver`; ``None`` if the body must come as usual."""


class _NumBytes:
    """Stands for bytes that are sent past h11, which only counts them."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes

    def __len__(self) -> int:
        return self._num_bytes


class LargeBodyProtocol(H11Protocol):
    """One connection; made by uvicorn, with the arguments of its own protocol."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        self._application: Any = self.app
        # uvloop has no sendfile for transports. The proactor of Windows reads ahead of its protocol: it would
        # bring bytes while no buffer is free, and those of the next request.
        if isinstance(self.loop, asyncio.SelectorEventLoop):
            self.app = self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = self.cycle
        if scope["scheme"] == "http":  # with TLS, the socket takes other bytes than these

            async def send_or_sendfile(message: Message) -> None:
                if message["type"] == _SEND_FILE:
                    await self._send_file(cycle, Path(message["path"]))
                else:
                    await send(message)

            scope["extensions"] = {_SEND_FILE: {}, TAKE_BODY: self._take_body}
            await self._application(scope, receive, send_or_sendfile)
        else:
            await self._application(scope, receive, send)

    async def _send_file(self, cycle: RequestResponseCycle, path: Path) -> None:
        """Send a file as the whole body of the answer; one who has gone away is not an error."""
        await self.flow.drain()
        if cycle.disconnected or self.transport.is_closing():
            return
        with path.open("rb") as file:
            descriptor = file.fileno()
            if hasattr(os, "posix_fadvise"):  # what is not in memory yet is read while the first bytes leave
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
            size = os.fstat(descriptor).st_size
            # h11 lets the sender of a file announce its length alone.
            cycle.conn.send_with_data_passthrough(h11.Data(data=_NumBytes(size)))  # type: ignore[arg-type]  # has a length, as h11 asks
            try:
                await self.loop.sendfile(self.transport, file)
            except ConnectionError:
                self.transport.abort()
                # uvicorn learns it in a moment only, and would log an answer without an end as our fault.
                cycle.disconnected = True
                return
        await cycle.send({"type": "http.response.body", "body": b"", "more_body": False})

    def _take_body(self) -> BodyReceiver | None:
        """Turn what is still to come of the body away from h11; ``None`` if its end cannot be known here."""
        cycle = self.cycle
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"")
        if b"transfer-encoding" in headers or not length.isdigit() or not cycle.more_body:
            return None
        if cycle.waiting_for_100_continue or cycle.disconnected:
            return None
        begun = bytes(cycle.body)
        cycle.body = bytearray()
        return BodyReceiver(
            self,
            begun,
            num_bytes=int(length) - len(begun),
            on_end=lambda num_left: self._body_was_taken(cycle, num_left=num_left),
        )

    def _body_was_taken(self, cycle: RequestResponseCycle, *, num_left: int) -> None:
        """Let h11 know the request as one whose body is what was not taken; the next one is behind that."""
        head = [f"{cycle.scope['method']} / HTTP/{cycle.scope['http_version']}".encode()]
        head += [name + b": " + value for name, value in self.headers if name != b"content-length"]
        head += [f"content-length: {num_left}".encode(), b"", b""]
        self.conn = cycle.conn = h11.Connection(h11.SERVER)
        self.conn.receive_data(b"\r\n".join(head))
        self.conn.next_event()  # the request
        if not num_left:
            self.conn.next_event()  # its end
            cycle.more_body = False
