"""Messages between the processes of one training, and what it means when they stop coming."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, cast

import torch.distributed as dist

from edgeml_lightning.errors import ProcessLostError

__all__ = ["MessageGroup", "losses_named"]


class MessageGroup:
    """A process group of its own, on gloo.

    Its messages neither need an accelerator nor mix with the collectives of training. Every process makes
    one, at the same point, and calls its methods in the same order.

    Args:
        timeout_s: For how many seconds a process waits for another.
    """

    def __init__(self, *, timeout_s: float) -> None:
        group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))  # pyright: ignore[reportUnknownMemberType] - torch.distributed is untyped
        self._group: Final = cast("dist.ProcessGroup", group)

    def meet(self) -> None:
        """Wait until all processes are here.

        Raises:
            ProcessLostError: One is not coming.
        """
        with losses_named():
            dist.barrier(group=self._group)  # pyright: ignore[reportUnknownMemberType] - as above

    def send(self, message: object) -> None:
        """Send a message from the first process to all others.

        Raises:
            ProcessLostError: One of them is gone.
        """
        with losses_named():
            dist.broadcast_object_list([message], src=0, group=self._group)

    def receive(self) -> object:
        """Return the first process's next message.

        Raises:
            ProcessLostError: It is gone.
        """
        box: list[object] = [None]
        with losses_named():
            dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def gather(self, value: object) -> list[Any]:
        """Return the values of all processes, by rank.

        Raises:
            ProcessLostError: One of them is gone.
        """
        values: list[Any] = [None] * dist.get_world_size()
        with losses_named():
            dist.all_gather_object(values, value, group=self._group)  # pyright: ignore[reportUnknownMemberType] - as above
        return values


@contextmanager
def losses_named() -> Generator[None]:
    """Say in one error what the backends of ``torch.distributed`` say in many.

    Raises:
        ProcessLostError: A collective of the block failed.
    """
    try:
        yield
    except RuntimeError as exc:  # torch's DistError is one
        raise ProcessLostError(str(exc)) from exc
