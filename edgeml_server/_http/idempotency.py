"""Creating calls that may be sent twice: the second time answers what the first did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from fastapi import Depends, Header, Request
from pydantic import TypeAdapter

from edgeml_server.db.answers import AnswerRepository
from edgeml_server.errors import ContradictionError

if TYPE_CHECKING:
    from datetime import datetime

    from edgeml_server.db import UnitOfWork

__all__ = ["IdempotentCall", "RepeatableCall", "once"]

T = TypeVar("T")

_REMEMBERED: Final = timedelta(days=1)


@dataclass(frozen=True)
class RepeatableCall:
    """A creating call, as far as its repetition is concerned.

    Attributes:
        key: The caller's ``Idempotency-Key``; ``None`` makes every call a new one.
        body_digest: ``sha256:<hex>`` of what was sent.
    """

    key: str | None
    path: str
    body_digest: str


async def repeatable_call(
    request: Request,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> RepeatableCall:
    """Return the call at hand; for JSON bodies, which are in memory anyway."""
    digest = hashlib.sha256(await request.body()).hexdigest()
    return RepeatableCall(idempotency_key, request.url.path, f"sha256:{digest}")


IdempotentCall = Annotated[RepeatableCall, Depends(repeatable_call)]


def once(
    work: UnitOfWork,
    org_id: str,
    call: RepeatableCall,
    answer: type[T],
    create: Callable[[], T],
    *,
    now: datetime,
) -> T:
    """Run ``create`` unless this very call was answered before.

    The answer is stored in the same unit of work.

    Args:
        answer: The type of what ``create`` returns.

    Raises:
        ContradictionError: The key was used for another call.
    """
    if call.key is None:
        return create()
    answers = AnswerRepository(work.session, org_id)
    adapter = TypeAdapter(answer)
    if not answers.claim(key=call.key, path=call.path, body_digest=call.body_digest, now=now):
        held = answers.find(call.key)
        if held is None or (held.path, held.body_digest) != (call.path, call.body_digest):
            raise ContradictionError("this Idempotency-Key was used for another call; draw a new one")
        return adapter.validate_json(held.answer)
    created = create()
    answers.store(key=call.key, answer=adapter.dump_json(created).decode())
    answers.forget_before(now - _REMEMBERED)
    return created
