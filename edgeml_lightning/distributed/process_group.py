"""Several processes that train one model together, over ``torch.distributed``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar, cast

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from typing_extensions import override

from edgeml_lightning.distributed.averaging import average_gradients_, broadcast_buffers_
from edgeml_lightning.distributed.envelope import Failed, StillWorking, Succeeded
from edgeml_lightning.distributed.heartbeat import Heartbeat
from edgeml_lightning.distributed.messages import MessageGroup, losses_named
from edgeml_lightning.distributed.ranks import Ranks
from edgeml_lightning.distributed.sharding import whole_tensor
from edgeml_lightning.exchange import require_loadable

__all__ = ["ProcessGroupRanks"]

_Value = TypeVar("_Value")

_BEATS_A_TIMEOUT: Final = 4
"""How often the first process says that it is alive within the time the others wait at most."""

_MAX_BEAT_S: Final = 5.0


class ProcessGroupRanks(Ranks):
    """The processes of the default process group.

    Messages go through a group of their own; arrays through the default group, on the devices where they are.

    Every process makes one, at the same point.

    Args:
        timeout_s: For how many seconds a process waits for a sign of life from another. How long the
            first one works is not limited by it.

    Attributes:
        world: The process group whose processes these are.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self.world: Final = dist.group.WORLD
        self._rank: Final = dist.get_rank()
        self._every_s: Final = min(timeout_s / _BEATS_A_TIMEOUT, _MAX_BEAT_S)
        self._messages: Final = MessageGroup(timeout_s=timeout_s)

    @property
    @override
    def is_first(self) -> bool:
        return self._rank == 0

    @override
    def on_first(self, work: Callable[[], _Value]) -> _Value:
        self._messages.meet()
        return self._lead(work) if self.is_first else cast("_Value", self._follow())

    @override
    def on_every(self, work: Callable[[], _Value]) -> _Value:
        try:
            value = work()
        except BaseException as exc:
            self._messages.gather(Failed.of(exc, rank=self._rank))
            raise
        for other in self._messages.gather(None):
            if isinstance(other, Failed):
                raise other.error()
        return value

    @override
    def gather(self, value: _Value) -> list[_Value]:
        return self._messages.gather(value)

    @override
    def whole(self, arrays: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        wholes = ((name, whole_tensor(array)) for name, array in arrays.items())
        return {name: array.cpu() for name, array in wholes if self.is_first}

    @override
    def load_(self, module: nn.Module, arrays: Mapping[str, Tensor]) -> None:
        mine: dict[str, Tensor] = dict(arrays) if self.is_first else {}
        self.on_every(lambda: require_loadable(module, mine))
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
        with losses_named():
            set_model_state_dict(module, {**mine}, options=options)

    @override
    def average_gradients_(self, parameters: Iterable[Tensor]) -> None:
        average_gradients_(parameters)

    @override
    def follow_buffers_(self, module: nn.Module) -> None:
        broadcast_buffers_(module)

    def _lead(self, work: Callable[[], _Value]) -> _Value:
        heartbeat = Heartbeat(lambda: self._messages.send(StillWorking()), every_s=self._every_s)
        try:
            with heartbeat:
                value = work()
        except BaseException as exc:
            if heartbeat.lost is None:
                self._messages.send(Failed.of(exc, rank=self._rank))
            raise
        if heartbeat.lost is not None:
            raise heartbeat.lost
        self._messages.send(Succeeded(value))
        return value

    def _follow(self) -> object:
        while True:
            message = self._messages.receive()
            if isinstance(message, Failed):
                raise message.error()
            if isinstance(message, Succeeded):
                return message.value
