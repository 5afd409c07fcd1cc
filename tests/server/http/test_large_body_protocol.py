"""Short ways of large bodies stand on what uvicorn keeps to itself: here it shows if they are not taken."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from edgeml_server._http.body_receiver import BodyReceiver
from edgeml_server._http.protocol import TAKE_BODY, LargeBodyProtocol
from edgeml_server.serving import uvicorn_options

BODY = bytes(range(256)) * 8000
"""More than asyncio reads at a time: its end has not come when the application is called."""


class Echo:
    """Takes a body the short way into a file, and sends that file the short way."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        receiver = scope["extensions"][TAKE_BODY]()
        assert isinstance(receiver, BodyReceiver)
        with self._file.open("wb") as file:
            async for piece in receiver.pieces(silence_s=30):
                file.write(piece)
        headers = [(b"content-length", str(len(BODY)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.pathsend", "path": str(self._file)})


def test_on_a_selector_loop_bodies_are_taken_and_files_are_sent_past_the_parser(tmp_path: Path) -> None:
    async def ask_twice() -> list[bytes]:
        options = uvicorn_options(lifespan="off", log_config=None)
        server = uvicorn.Server(uvicorn.Config(Echo(tmp_path / "body"), **options))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
                url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
                answers = [(await client.post(url, content=BODY)).content for _ in range(2)]
            server.should_exit = True
            await serving
        return answers

    assert asyncio.run(ask_twice()) == [BODY, BODY]


def test_a_loop_that_reads_ahead_of_its_protocol_goes_the_ordinary_way(tmp_path: Path) -> None:
    """As the proactor of Windows does: it would bring the next request into the buffers of a body."""
    config = uvicorn.Config(Echo(tmp_path / "body"), **uvicorn_options(log_config=None))
    config.load()
    taken: list[bool] = []
    for loop in (asyncio.SelectorEventLoop(), asyncio.BaseEventLoop()):
        protocol = LargeBodyProtocol(config, ServerState(), {}, loop)
        taken.append(isinstance(getattr(protocol.app, "__self__", None), LargeBodyProtocol))
        loop.close()

    assert taken == [True, False]
