"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from edgeml_client._transport.answers import Answer
from edgeml_client.errors import InvalidResponseError

__all__ = [
    "RETRYABLE_STATUSES",
    "BackOff",
    "CorruptDownloadError",
    "TransientAnswerError",
    "delay_before_retry_s",
    "retry_after_s",
]

RETRYABLE_STATUSES: Final = frozenset({408, 425, 429, 502, 503, 504})
"""The statuses that say "not now" rather than "no"."""

FIRST_DELAY_S: Final = 0.25
LONGEST_DELAY_S: Final = 8.0
LONGEST_RETRY_AFTER_S: Final = 60.0
"""A server that wants more patience than this gets its refusal shown to the caller instead."""

# A connection that broke at any point, including inside the answer; not: our own mistakes in the request.
_BROKEN: Final = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)


class TransientAnswerError(Exception):
    """An answer with one of :data:`RETRYABLE_STATUSES`; never leaves the transport.

    Attributes:
        answer: The answer.
        retry_after_s: The wait the server asked for, in seconds.
    """

    def __init__(self, answer: Answer, *, retry_after_s: float | None) -> None:
        super().__init__(f"{answer.method} {answer.url} answered {answer.status_code}")
        self.answer = answer
        self.retry_after_s = retry_after_s


class CorruptDownloadError(InvalidResponseError):
    """A download arrived whole and is not what was announced; another try may help."""


def retry_after_s(header: str | None, *, now: datetime) -> float | None:
    """Return the seconds a ``Retry-After`` header asks for, or ``None`` if it says nothing usable.

    Both forms of RFC 9110, section 10.2.3, are read: seconds, and an HTTP date.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return max(0.0, (moment - now).total_seconds())


def delay_before_retry_s(
    num_failures: int, *, retry_after_s: float | None, rng: random.Random
) -> float | None:
    """Return how long to wait before the next try, or ``None`` if waiting makes no sense.

    Full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/): uniform between
    0 and ``min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (num_failures - 1))``, on top of what the server asked
    for, so that devices told the same ``Retry-After`` do not come back all at once.

    Args:
        num_failures: Failures in a row so far, at least 1.
        retry_after_s: What the server asked for, if it did.
        rng: Source of the jitter.
    """
    if retry_after_s is not None and retry_after_s > LONGEST_RETRY_AFTER_S:
        return None
    ceiling = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(num_failures - 1, 16))
    return (retry_after_s or 0.0) + rng.uniform(0.0, ceiling)


@dataclass
class BackOff:
    """Answers, for one request, whether a failure is worth another try; ``stamina`` calls it.

    Attributes:
        max_attempts: Failures in a row that are endured; at least 1.
        num_failures: Failures in a row so far; whoever makes progress may set it back to 0.
    """

    max_attempts: int
    rng: random.Random = field(default_factory=random.Random)
    num_failures: int = 0

    def __call__(self, error: Exception) -> float | bool:
        """Return the seconds to wait before the next try, or ``False`` to give up."""
        self.num_failures += 1
        transient = isinstance(error, (*_BROKEN, TransientAnswerError, CorruptDownloadError))
        if not transient or self.num_failures >= self.max_attempts:
            return False
        wanted = error.retry_after_s if isinstance(error, TransientAnswerError) else None
        delay_s = delay_before_retry_s(self.num_failures, retry_after_s=wanted, rng=self.rng)
        return False if delay_s is None else delay_s
