"""Asking for rounds, and for what became of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, TypeVar, cast

from pydantic import Field, model_validator

from edgeml_client._transport.http import HttpTransport
from edgeml_client._transport.paths import endpoint
from edgeml_client.clock import Clock
from edgeml_client.resources.capabilities import Capabilities
from edgeml_client.rounds.waiting import poll_until
from edgeml_client.schemas import Capability, Record, RoundAssignment, RoundPhase, RoundStatus

__all__ = ["RoundCalls", "has_ended"]

T = TypeVar("T")

_ENDED: Final = frozenset({RoundPhase.COMPLETED, RoundPhase.ABANDONED, "failed", "cancelled"})
_ANSWER_MARGIN_S: Final = 10.0


class _Assignments(Record):
    """``GET /training/rounds``: a list, or an object that holds it."""

    rounds: tuple[RoundAssignment, ...] = Field(default=())

    @model_validator(mode="before")
    @classmethod
    def _accept_bare_list(cls, value: object) -> object:
        return {"rounds": cast("object", value)} if isinstance(value, list) else value


def has_ended(status: RoundStatus) -> bool:
    """Return whether a round takes no more updates and will not change any more."""
    return status.state in _ENDED


class RoundCalls:
    """The calls that read rounds; they wait by long polls where the control plane offers them.

    Args:
        transport: Sends the requests.
        capabilities: Decides how to wait.
        timeout_s: How long the control plane may take to answer at once.
        clock: Measures the waiting.
        rng: Draws the pauses between polls.
    """

    def __init__(
        self,
        transport: HttpTransport,
        *,
        capabilities: Capabilities,
        timeout_s: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._transport = transport
        self._capabilities = capabilities
        self._timeout_s = timeout_s
        self._clock = clock
        self._rng = rng

    def find_assignment(
        self, device_id: str, *, model_id: str | None, wait_s: float
    ) -> RoundAssignment | None:
        """Return the first round this device was chosen for, or ``None`` after ``wait_s`` seconds."""

        def ask(held_s: float) -> RoundAssignment | None:
            answer = self._transport.call(
                "GET",
                "/training/rounds",
                _Assignments,
                params={"device_id": device_id, "status": "active", "wait_s": held_s or None},
                timeout=self._patience_s(held_s),
            )
            return next((it for it in answer.rounds if model_id in (None, it.model_id)), None)

        return self._poll(ask, wait_s=wait_s)

    def status(self, round_id: str, *, held_s: float = 0.0) -> RoundStatus:
        """Return how far a round is; the control plane may hold back the answer until it has ended."""
        return self._transport.call(
            "GET",
            endpoint("/training/rounds/{}/status", round_id),
            RoundStatus,
            params={"wait_s": held_s, "until": "ended"} if held_s else None,
            timeout=self._patience_s(held_s),
        )

    def wait_until_ended(self, round_id: str, *, wait_s: float) -> RoundStatus | None:
        """Return the status of a round once it has ended, or ``None`` after ``wait_s`` seconds."""

        def ask(held_s: float) -> RoundStatus | None:
            status = self.status(round_id, held_s=held_s)
            return status if has_ended(status) else None

        return self._poll(ask, wait_s=wait_s)

    def _poll(self, ask: Callable[[float], T | None], *, wait_s: float) -> T | None:
        return poll_until(
            ask,
            wait_s=wait_s,
            can_long_poll=wait_s > 0 and Capability.ROUNDS_WAIT in self._capabilities,
            clock=self._clock,
            rng=self._rng,
        )

    def _patience_s(self, held_s: float) -> float | None:
        return self._timeout_s + held_s + _ANSWER_MARGIN_S if held_s else None
