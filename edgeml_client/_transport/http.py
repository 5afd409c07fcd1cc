"""What is asked of a control plane: calls, and downloads."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

import httpx
from pydantic import JsonValue, TypeAdapter

from edgeml_client._transport.answers import Answer, parse_answer, read_answer
from edgeml_client._transport.bodies import Body, json_body
from edgeml_client._transport.downloads import Download, Downloading
from edgeml_client._transport.request_sender import RequestSender
from edgeml_client._transport.requests import QueryValue, WireRequest, origin_of, parsed_address, present
from edgeml_client._transport.retry import BackOff
from edgeml_client._transport.sinks import FileSink, Sink
from edgeml_client._transport.tokens import BearerTokens
from edgeml_client.clock import Clock, SystemClock
from edgeml_client.errors import ConfigurationError, InvalidResponseError
from edgeml_client.schemas import WireBody

__all__ = ["Download", "HttpTransport", "QueryValue"]

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 512 * 1024 * 1024
"""The longest JSON answer that is read; personal models travel in JSON, so it is not small."""

_NEEDS_KEY: Final = frozenset({"POST", "PATCH"})


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
        self._sender = RequestSender(BearerTokens(auth_token_provider), clock=clock)
        self._timeout_s = timeout
        self._download_timeout_s = download_timeout
        self._max_attempts = max_attempts

    @property
    def num_bytes_sent(self) -> int:
        """Bytes of request bodies sent so far, repetitions included."""
        return self._sender.num_bytes_sent

    @property
    def num_bytes_received(self) -> int:
        """Bytes of answers' bodies received so far, as they were on the wire."""
        return self._sender.num_bytes_received

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self._sender.pool.close()

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
        return parse_answer(self._sender.send(lambda: request, _read_whole, back_off), answer)

    def download(
        self,
        path: str,
        *,
        params: Mapping[str, QueryValue] | None = None,
        max_bytes: int | None = None,
        into: Sink | None = None,
    ) -> Download:
        """Get content, resuming where a dropped connection left it, and check it against its digest.

        Args:
            path: Below ``api_base``; or an absolute address, which is sent the token only if it is on the
                same origin.
            params: The query; what is ``None`` is left out.
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
            FileSink(memory) if into is None else into, max_bytes=max_bytes, back_off=back_off
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

        return replace(self._sender.send(next_request, state.take, back_off), data=memory.getvalue())

    def _url(self, path: str) -> httpx.URL:
        if path.startswith(("http://", "https://")):
            return parsed_address(path)
        return parsed_address(self.api_base + path)


def _read_whole(response: httpx.Response) -> Answer:
    answer = read_answer(response, max_bytes=MAX_ANSWER_BYTES + 1)
    if len(answer.content) > MAX_ANSWER_BYTES:
        raise InvalidResponseError(
            f"{answer.method} {answer.url} answered more than {MAX_ANSWER_BYTES} bytes"
        )
    return answer
