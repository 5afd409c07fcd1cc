"""Signs of life while one process works and the others wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from edgeml_lightning.errors import ProcessLostError

__all__ = ["Heartbeat"]


class Heartbeat:
    """Calls ``beat`` every ``every_s`` seconds for as long as the block runs, from a thread of its own.

    When the block has ended, no beat is under way and none will come.

    Args:
        beat: Tells the others; raises :class:`ProcessLostError` when it cannot.
        every_s: Seconds from one beat to the next.

    Attributes:
        lost: What ``beat`` raised; it is not called again afterwards.
    """

    def __init__(self, beat: Callable[[], None], *, every_s: float) -> None:
        self._beat = beat
        self._every_s = every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeml-heartbeat", daemon=True)
        self.lost: ProcessLostError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(self._every_s):
            try:
                self._beat()
            except ProcessLostError as exc:
                self.lost = exc
                return
