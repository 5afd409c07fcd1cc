"""An HTTP server on a loopback port that answers as a test wants, well or badly."""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

__all__ = ["Exchange", "Reply", "ScriptedServer"]

_POLL_S: Final = 0.02


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request as it arrived.

    Attributes:
        path: Percent-encoded, without the query.
        query: The last value under each name.
        headers: By lower-case name.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:  # noqa: ANN401 - a JSON value
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the server does with a request.

    Attributes:
        status: The HTTP status.
        body: Sent as it is.
        headers: Further headers; ``Content-Length`` is added unless there is a ``Transfer-Encoding``.
        cut_after_bytes: Close the connection after so many bytes of the body, although more were announced.
        drop: Close the connection without any answer.
        wait_for: Answer only once this is set, or never if the server closes first.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    cut_after_bytes: int | None = None
    drop: bool = False
    wait_for: threading.Event | None = None

    @classmethod
    def of_json(cls, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Return a reply with a JSON body."""
        kind = {"Content-Type": "application/json"}
        return cls(status=status, body=json.dumps(value).encode(), headers=kind | dict(headers or {}))


Script = Reply | Callable[[Exchange], Reply]


class ScriptedServer:
    """Answers each address from a script: the replies in order, the last one for ever.

    Requests to an address without a script get 404, and 500 where the script raises. Every request is kept
    in :attr:`exchanges`.

    Example:
        >>> with ScriptedServer() as server:
        ...     server.on("GET", "/health", Reply.of_json({"status": "ok"}))
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(self) -> None:
        self._scripts: defaultdict[tuple[str, str], list[Script]] = defaultdict(list)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.exchanges: list[Exchange] = []
        self._http = _Server(("127.0.0.1", 0), _Handler, self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(_POLL_S,), daemon=True)

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def api_base(self) -> str:
        """The address of the API."""
        return f"{self.url}/api/v1"

    def on(self, method: str, path: str, *script: Script) -> None:
        """Answer ``method`` and ``path`` (below ``/api/v1``) with these replies, in order."""
        with self._lock:
            self._scripts[method, f"/api/v1{path}"] = list(script)

    def requests(self, method: str, path: str) -> list[Exchange]:
        """Return the requests that came to an address, in order."""
        with self._lock:
            wanted = (method, f"/api/v1{path}")
            return [exchange for exchange in self.exchanges if (exchange.method, exchange.path) == wanted]

    def reply_to(self, exchange: Exchange) -> Reply:
        """Keep the request, and return what its script says."""
        with self._lock:
            self.exchanges.append(exchange)
            script = self._scripts[exchange.method, exchange.path]
            step = script.pop(0) if len(script) > 1 else (script[0] if script else None)
        if step is None:
            return Reply.of_json({"detail": "no script for this address"}, status=404)
        if isinstance(step, Reply):
            return step
        try:
            return step(exchange)
        except Exception as exc:  # noqa: BLE001 - a test that is wrong must be able to see how
            return Reply.of_json({"detail": f"the script of this address raised {exc!r}"}, status=500)

    def wait(self, event: threading.Event) -> bool:
        """Return whether ``event`` was set before the server closed."""
        while not event.wait(_POLL_S):
            if self._closing.is_set():
                return False
        return True

    def close(self) -> None:
        """Stop answering, and let go of the port."""
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], owner: ScriptedServer
    ) -> None:
        self.owner = owner
        super().__init__(address, handler)

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are what tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - it is only ever made by that one

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        owner = self.server.owner
        reply = owner.reply_to(
            Exchange(
                method=self.command,
                path=parts.path,
                query={name: values[-1] for name, values in parse_qs(parts.query).items()},
                headers={name.lower(): value for name, value in self.headers.items()},
                body=body,
            )
        )
        if (reply.wait_for is not None and not owner.wait(reply.wait_for)) or reply.drop:
            self._hang_up()
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in reply.headers and reply.status not in {204, 304}:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut_after_bytes])
        if reply.cut_after_bytes is not None:
            self.wfile.flush()
            self._hang_up()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - as above

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the exchanges are kept."""
