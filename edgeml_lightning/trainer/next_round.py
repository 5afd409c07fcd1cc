"""Waiting for the next round of a federation, as long as one may follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgeml_lightning.callbacks.waiting import announce_wait
from edgeml_lightning.trainer.series_end import end_reason, is_last, newest_round, over_after

if TYPE_CHECKING:
    from edgeml_client import FederatedClient
    from edgeml_client.clock import Clock
    from edgeml_client.schemas import RoundAssignment

__all__ = ["NextRound"]

_LOOK_AGAIN_S: Final = 20.0
"""How long one request waits for a round before it is asked whether the federation is over."""


class NextRound:
    """Waits for one round of a model after the other, and knows from the last one whether more will follow.

    Args:
        model: The name or id of the global model.
        wait_s: How long to wait for each round, in seconds.
        clock: What measures that.
    """

    def __init__(self, *, model: str, wait_s: float, clock: Clock) -> None:
        self._model = model
        self._wait_s = wait_s
        self._clock = clock
        self._last: RoundAssignment | None = None

    def wait(self, client: FederatedClient) -> str | None:
        """Return ``None`` once a round is offered to the device of ``client``, or why none will be."""
        until_s = self._clock.monotonic_s() + self._wait_s
        pause_s = 0.0
        while True:
            left_s = max(0.0, until_s - self._clock.monotonic_s())
            offered = client.get_round_assignment(model=self._model, wait_s=min(left_s, pause_s))
            if offered is not None:
                self._last = offered
                return None
            if (reason := self._find_end(client)) is not None:
                return reason
            if left_s <= 0:
                return (
                    f"no round of model {self._model!r} was offered to this device within {self._wait_s:g} s"
                )
            if self._last is None and pause_s == 0:
                announce_wait(client, model=self._model, wait_s=self._wait_s)
            pause_s = _LOOK_AGAIN_S

    def _find_end(self, client: FederatedClient) -> str | None:
        if self._last is None:
            return None
        if is_last(self._last):
            return over_after(self._last.num_rounds)
        return end_reason(newest_round(self._last.round_id, get_status=client.get_round_status))
