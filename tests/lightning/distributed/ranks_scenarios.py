"""What processes do with one another in the tests of ``Ranks``, without a training."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from edgeml_lightning.distributed import Ranks
from edgeml_lightning.distributed.process_group import ProcessGroupRanks

TIMEOUT_S = 2.0
WORK_S = 5.0


def meet(rank: int) -> Ranks:
    dist.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=60))
    return ProcessGroupRanks(timeout_s=TIMEOUT_S)


def talk(rank: int) -> dict[str, Any]:
    """Do one of everything; the order is the same in both processes."""
    ranks = meet(rank)
    return {
        "is_first": ranks.is_first,
        "on_first": ranks.on_first(lambda: ("done in", rank)),
        "on_every": ranks.on_every(lambda: ("done in", rank)),
        "gather": ranks.gather(rank * 10),
        "long work": ranks.on_first(lambda: threading.Event().wait(WORK_S)),
        "first fails": raised(lambda: ranks.on_first(lambda: fail(rank, of=0))),
        "first is interrupted": raised(lambda: ranks.on_first(interrupt)),
        "second fails": raised(lambda: ranks.on_every(lambda: fail(rank, of=1))),
        "gradients": averaged_gradients(rank, ranks),
        "buffers": followed_buffers(rank, ranks),
        "misfit": raised(lambda: ranks.load_(nn.Linear(2, 1), {"weight": torch.zeros(3, 3)})),
        "loaded": loaded(rank, ranks),
    }


def fail(rank: int, *, of: int) -> None:
    if rank == of:
        raise LookupError(f"process {rank} cannot")


def interrupt() -> None:
    raise KeyboardInterrupt


def raised(work: Callable[[], Any]) -> tuple[str, str, float]:
    """Return the class and the words of what ``work`` raised, and when."""
    try:
        work()
    except BaseException as exc:  # noqa: BLE001 - whatever it is
        return type(exc).__name__, str(exc), time.monotonic()
    return "nothing", "", time.monotonic()


def averaged_gradients(rank: int, ranks: Ranks) -> list[list[float] | None]:
    """Gradients (1, 3) and (2, 6) of one parameter, (4) of one that only process 1 used, and none."""
    both, one, unused = (nn.Parameter(torch.zeros(n)) for n in (2, 1, 1))
    both.grad = torch.tensor([1.0, 3.0]) * (rank + 1)
    one.grad = torch.tensor([4.0]) if rank == 1 else None
    ranks.average_gradients_([both, one, unused])
    return [None if p.grad is None else p.grad.tolist() for p in (both, one, unused)]


def followed_buffers(rank: int, ranks: Ranks) -> float:
    norm = nn.BatchNorm1d(1)
    norm.running_mean = torch.tensor([float(rank + 5)])
    ranks.follow_buffers_(norm)
    return float(norm.running_mean)


def loaded(rank: int, ranks: Ranks) -> list[float]:
    layer = nn.Linear(2, 1, bias=False)
    ranks.load_(layer, {"weight": torch.tensor([[1.0, 2.0]])} if rank == 0 else {})
    return layer.weight.flatten().tolist()


def lose_the_second(rank: int) -> tuple[str, str, float]:
    """The second process ends without a word while the first one is at work."""
    ranks = meet(rank)
    if rank == 1:
        threading.Timer(0.5, os._exit, [1]).start()
    return raised(lambda: ranks.on_first(lambda: threading.Event().wait(WORK_S)))
