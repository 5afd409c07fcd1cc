"""The one place that sends requests to a control plane."""

from __future__ import annotations

import io
import logging
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeVar

import httpx
import stamina
from pydantic import JsonValue, TypeAdapter

from edgeml_client._transport.answers import Answer, parse_answer, read_answer, refused, shown_url
from edgeml_client._transport.bodies import Body, json_body
from edgeml_client._transport.downloads import Download, Downloading
from edgeml_client._transport.logs import discreetly
from edgeml_client._transport.pool import ConnectionPool
from edgeml_client._transport.requests import QueryValue, WireRequest, origin_of, parsed_address, present
from edgeml_client._transport.retry import RETRYABLE_STATUSES, BackOff, TransientAnswerError, retry_after_s
from edgeml_client._transport.sinks import FileSink, Sink
from edgeml_client._transport.tokens import BearerTokens
from edgeml_client.clock import Clock, SystemClock
from edgeml_client.errors import ConfigurationError, ConnectionFailedError, InvalidResponseError
from edgeml_client.schemas import WireBody

__all__ = ["Download", "HttpTransport", "QueryValue"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_ANSWER_BYTES: Final = 512 * 1024 * 1024
"""The longest JSON answer that is read; personal models travel in JSON, so it is not small."""

MAX_REFUSAL_BYTES: Final = 64 * 1024
CONNECT_TIMEOUT_S: Final = 10.0
_NEEDS_KEY: Final = frozenset({"POST", "PATCH"})
_UNAUTHORIZED, _NOT_MODIFIED, _REDIRECT, _REFUSED = 401, 304, 300, 400


class HttpTransport:
    """Calls a control plane: pooled, retried, streamed, and with errors that say what to do.

    Usable from several threads at once. Connections open at the first call, and again after :meth:`close`
    or in a forked child.

    Args:
        api_base: Address of the API, for instance ``http://127.0.0.1:8080/api/v1``.
        auth_token_provider: Returns the access token for the next request; ``None`` sends none. A 401 makes
            the transport ask once more before it gives up.
        timeout: Longest silence of the server within a call, in seconds.
        download_timeout: The same for downloads and for uploads of content, in seconds.
        max_attempts: How often a request that may be repeated is tried, at least 1.
        clock: Used to read the dates of ``Retry-After``.
    """

    def __init__(
        self,
        *,
        api_base: str,
        auth_token_provider: Callable[[], str] | None,
        timeout: float = 20.0,
        download_timeout: float = 120.0,
        max_attempts: int = 4,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    ) -> None:
        if max_attempts < 1:
            raise ConfigurationError(f"max_attempts must be at least 1, not {max_attempts}")
        for name, seconds in (("timeout", timeout), ("download_timeout", download_timeout)):
            if not seconds > 0:
                raise ConfigurationError(f"{name} must be a positive number of seconds, not {seconds}")
        self.api_base = api_base.rstrip("/")
        self._base = parsed_address(self.api_base)
        self._tokens = BearerTokens(auth_token_provider)
        self._timeout_s = timeout
        self._download_timeout_s = download_timeout
        self._max_attempts = max_attempts
        self._clock = clock
        self._pool = ConnectionPool()
        self._lock = threading.Lock()
        self._num_bytes_sent = 0
        self._num_bytes_received = 0

    @property
    def num_bytes_sent(self) -> int:
        """Bytes of request bodies sent so far, repetitions included."""
        return self._num_bytes_sent

    @property
    def num_bytes_received(self) -> int:
        """Bytes of answers' bodies received so far, as they were on the wire."""
        return self._num_bytes_received

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self._pool.close()

    def call(
        self,
        method: str,
        path: str,
        answer: type[T] | TypeAdapter[T],
        *,
        params: Mapping[str, QueryValue] | None = None,
        body: WireBody | Mapping[str, JsonValue] | Body | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        max_attempts: int | None = None,
    ) -> T:
        """Send one request and return its answer as ``answer``.

        Args:
            method: ``GET``, ``POST``, ``PUT``, ``PATCH`` or ``DELETE``.
            path: Below ``api_base``, made by ``endpoint``.
            answer: The form of the answer; ``type(None)`` for none.
            params: The query; what is ``None`` is left out.
            body: Sent as JSON; or content that is sent as it is, with the patience of ``download_timeout``.
            headers: Further headers.
            idempotency_key: Under which the server recognizes a repetition. Left out, POST and PATCH get a
                new one, so that every request may be repeated after a dropped connection.
            timeout: Longest silence of the server, in seconds.
            max_attempts: How often the request is tried, instead of what the transport was made with.

        Raises:
            RequestRefusedError: The control plane said no; the subclass tells what to do.
            ConnectionFailedError: No complete answer came, after all tries.
            InvalidResponseError: The answer does not follow the wire contract.
            AuthError: There is no usable token.
            ConfigurationError: The address cannot be called at all.
        """
        silence_s = self._timeout_s
        if isinstance(body, WireBody | Mapping):
            body = json_body(body)
        elif body is not None:
            silence_s = self._download_timeout_s
        if method in _NEEDS_KEY and idempotency_key is None:
            idempotency_key = uuid.uuid4().hex
        sent = {"Accept": "application/json", **(headers or {})}
        if idempotency_key is not None:
            sent["Idempotency-Key"] = idempotency_key
        request = WireRequest(
            method=method,
            url=self._url(path),
            params=present(params),
            timeout_s=timeout or silence_s,
            body=body,
            headers=sent,
        )
        back_off = BackOff(max_attempts=max_attempts or self._max_attempts)
        return parse_answer(self._perform(lambda: request, _read_whole, back_off), answer)

    def download(
        self,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        if_none_match: str | None = None,
        max_bytes: int | None = None,
        into: Sink | None = None,
    ) -> Download:
        """Get content, resuming where a dropped connection left it, and check it against its digest.

        Args:
            path: Below ``api_base``; or an absolute address, which is sent the token only if it is on the
                same origin.
            params: The query; what is ``None`` is left out.
            if_none_match: The ETag of the content that is already here.
            max_bytes: Longer content is refused before it is stored.
            into: What takes the content, where it is not to be ``data`` of what is returned.

        Raises:
            InvalidResponseError: The content is too long, or is not what the server announced.
            RequestRefusedError, ConnectionFailedError, AuthError, ConfigurationError: As in :meth:`call`.
        """
        memory = io.BytesIO()
        url = self._url(path)
        back_off = BackOff(max_attempts=self._max_attempts)
        state = Downloading(
            FileSink(memory) if into is None else into,
            max_bytes=max_bytes,
            if_none_match=if_none_match,
            back_off=back_off,
        )

        def next_request() -> WireRequest:
            return WireRequest(
                method="GET",
                url=url,
                params=present(params),
                timeout_s=self._download_timeout_s,
                authorized=origin_of(url) == origin_of(self._base),
                headers=state.headers(),
            )

        return replace(self._perform(next_request, state.take, back_off), data=memory.getvalue())

    def _url(self, path: str) -> httpx.URL:
        if path.startswith(("http://", "https://")):
            return parsed_address(path)
        return parsed_address(self.api_base + path)

    def _perform(
        self, request: Callable[[], WireRequest], read: Callable[[httpx.Response], T], back_off: BackOff
    ) -> T:
        """Try until ``read`` has an answer, or it is clear that it will have none."""
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
            raise ConfigurationError(f"an address below {self.api_base} cannot be called: {exc}") from exc
        except httpx.TransportError as exc:
            raise self._no_answer(exc, back_off) from exc
        raise AssertionError("stamina either returns or raises")  # pragma: no cover

    def _no_answer(self, error: httpx.TransportError, back_off: BackOff) -> ConnectionFailedError:
        what = "timed out" if isinstance(error, httpx.TimeoutException) else (str(error) or "connection lost")
        tries = "1 try" if back_off.num_failures == 1 else f"{back_off.num_failures} tries"
        return ConnectionFailedError(
            f"no answer from {shown_url(error.request.url)} after {tries} ({what}): "
            "check the address (what was given here, or EDGEML_API_BASE), the network and that the control "
            "plane runs, then try again"
        )

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
        sent = self._pool.client().stream(
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
                self._num_bytes_sent += len(chunk)
            yield chunk

    def _taken(self, response: httpx.Response, read: Callable[[httpx.Response], T]) -> T:
        """Return what ``read`` makes of a good answer; raise for any other."""
        status = response.status_code
        try:
            if status < _REDIRECT or status == _NOT_MODIFIED:
                return read(response)
            answer = read_answer(response, max_bytes=MAX_REFUSAL_BYTES)
        finally:
            with self._lock:
                self._num_bytes_received += response.num_bytes_downloaded
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


def _read_whole(response: httpx.Response) -> Answer:
    answer = read_answer(response, max_bytes=MAX_ANSWER_BYTES + 1)
    if len(answer.content) > MAX_ANSWER_BYTES:
        raise InvalidResponseError(
            f"{answer.method} {answer.url} answered more than {MAX_ANSWER_BYTES} bytes"
        )
    return answer
