"""How a request is sent: again where that may help, until there is an answer or none is to be expected."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import httpx
import stamina

from edgeml_client._transport.answers import read_answer, refused, shown_url
from edgeml_client._transport.bodies import Body
from edgeml_client._transport.logs import discreetly
from edgeml_client._transport.pool import ConnectionPool
from edgeml_client._transport.requests import WireRequest
from edgeml_client._transport.retry import RETRYABLE_STATUSES, BackOff, TransientAnswerError, retry_after_s
from edgeml_client._transport.tokens import BearerTokens
from edgeml_client.clock import Clock
from edgeml_client.errors import ConfigurationError, ConnectionFailedError, InvalidResponseError

__all__ = ["RequestSender"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_REFUSAL_BYTES: Final = 64 * 1024
CONNECT_TIMEOUT_S: Final = 10.0
_UNAUTHORIZED, _REDIRECT, _REFUSED = 401, 300, 400


class RequestSender:
    """Sends requests over pooled connections, with a token, and counts their bytes; for several threads.

    Args:
        tokens: The source of tokens.
        clock: Used to read the dates of ``Retry-After``.

    Attributes:
        pool: The connections.
        num_bytes_sent: Bytes of request bodies sent so far, repetitions included.
        num_bytes_received: Bytes of answers' bodies received so far, as they were on the wire.
    """

    def __init__(self, tokens: BearerTokens, *, clock: Clock) -> None:
        self.pool = ConnectionPool()
        self.num_bytes_sent = 0
        self.num_bytes_received = 0
        self._tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()

    def send(
        self, request: Callable[[], WireRequest], read: Callable[[httpx.Response], T], back_off: BackOff
    ) -> T:
        """Return what ``read`` makes of a good answer.

        Args:
            request: Returns what to send, before each try.
            read: Reads the answer; what it raises of httpx is a connection that broke.
            back_off: Decides whether there is another try.

        Raises:
            RequestRefusedError: The control plane said no; the subclass tells what to do.
            ConnectionFailedError: No complete answer came, after all tries.
            InvalidResponseError: The answer does not follow the wire contract.
            AuthError: There is no usable token.
            ConfigurationError: The address cannot be called at all.
        """
        try:
            with discreetly():
                for attempt in stamina.retry_context(on=back_off, attempts=None, timeout=None):
                    with attempt:
                        return self._try(request(), read)
        except TransientAnswerError as exc:
            raise refused(exc.answer) from None
        except (httpx.TooManyRedirects, httpx.DecodingError) as exc:
            raise InvalidResponseError(f"{shown_url(exc.request.url)}: {exc}: check EDGEML_API_BASE") from exc
        except httpx.LocalProtocolError as exc:
            raise ConfigurationError(f"{shown_url(exc.request.url)}: this cannot be sent: {exc}") from exc
        except httpx.InvalidURL as exc:
            raise ConfigurationError(f"{shown_url(request().url)} cannot be called so: {exc}") from exc
        except httpx.TransportError as exc:
            raise _no_answer(exc, num_tries=back_off.num_failures) from exc
        raise AssertionError("stamina either returns or raises")  # pragma: no cover

    def _try(self, request: WireRequest, read: Callable[[httpx.Response], T]) -> T:
        """Send once; and once more with another token if this one is refused."""
        token = self._tokens.current() if request.authorized else None
        with self._opened(request, token) as response:
            if response.status_code != _UNAUTHORIZED or token is None:
                return self._taken(response, read)
            answer = read_answer(response, max_bytes=MAX_REFUSAL_BYTES)
        other = self._tokens.after_refusal(token)
        if other is None:
            raise refused(answer)
        with self._opened(request, other) as response:
            return self._taken(response, read)

    @contextmanager
    def _opened(self, request: WireRequest, token: str | None) -> Generator[httpx.Response]:
        headers = dict(request.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if request.body is not None:
            headers.setdefault("Content-Type", request.body.content_type)
            headers["Content-Length"] = str(request.body.num_bytes)
        sent = self.pool.client().stream(
            request.method,
            request.url,
            params=request.params or None,
            headers=headers,
            content=None if request.body is None else self._counted(request.body),
            timeout=httpx.Timeout(request.timeout_s, connect=min(request.timeout_s, CONNECT_TIMEOUT_S)),
            # httpx drops the token when a redirect leaves the origin; a body must not leave it either.
            follow_redirects=request.method == "GET",
        )
        with sent as response:
            yield response

    def _counted(self, body: Body) -> Iterator[bytes]:
        for chunk in body.chunks():
            with self._lock:
                self.num_bytes_sent += len(chunk)
            yield chunk

    def _taken(self, response: httpx.Response, read: Callable[[httpx.Response], T]) -> T:
        """Return what ``read`` makes of a good answer; raise for any other."""
        status = response.status_code
        try:
            if status < _REDIRECT:
                return read(response)
            answer = read_answer(response, max_bytes=MAX_REFUSAL_BYTES)
        finally:
            with self._lock:
                self.num_bytes_received += response.num_bytes_downloaded
            logger.debug(
                "%s %s answered %s", response.request.method, shown_url(response.request.url), status
            )
        if status < _REFUSED:
            raise InvalidResponseError(
                f"{answer.method} {answer.url} redirects to another address; "
                "set EDGEML_API_BASE to the address it redirects to"
            )
        if status in RETRYABLE_STATUSES:
            wanted = retry_after_s(response.headers.get("retry-after"), now=self._clock.now())
            raise TransientAnswerError(answer, retry_after_s=wanted)
        raise refused(answer)


def _no_answer(error: httpx.TransportError, *, num_tries: int) -> ConnectionFailedError:
    what = "timed out" if isinstance(error, httpx.TimeoutException) else (str(error) or "connection lost")
    tries = "1 try" if num_tries == 1 else f"{num_tries} tries"
    return ConnectionFailedError(
        f"no answer from {shown_url(error.request.url)} after {tries} ({what}): "
        "check the address (what was given here, or EDGEML_API_BASE), the network and that the control "
        "plane runs, then try again"
    )
