"""The processes behind a Trainer: whether there are several, and starting them."""

from __future__ import annotations

from datetime import timedelta

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies.launchers import (
    _SubprocessScriptLauncher as SubprocessScriptLauncher,  # pyright: ignore[reportPrivateUsage] - no public name
)
from torch.distributed.constants import default_pg_timeout

from edgeml_lightning.distributed.local import LocalRanks
from edgeml_lightning.distributed.process_group import ProcessGroupRanks
from edgeml_lightning.distributed.ranks import Ranks

__all__ = ["ranks_of", "start_processes"]


def ranks_of(trainer: L.Trainer, *, known: Ranks) -> Ranks:
    """Return the processes that train together, once Lightning has connected them.

    Args:
        trainer: The user's Trainer.
        known: What this function returned before; returned again while it is true, because connecting
            costs time and sockets.
    """
    if trainer.world_size == 1:
        return LocalRanks()
    if isinstance(known, ProcessGroupRanks) and known.world is dist.group.WORLD:
        return known
    return ProcessGroupRanks(timeout_s=_timeout_of(trainer).total_seconds())


def start_processes(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Start and connect the processes that ``trainer.fit`` would start and connect.

    For what is to be done together before a fit. The fit finds them running.
    """
    if trainer.world_size == 1:
        return
    launcher = trainer.strategy.launcher
    if isinstance(launcher, SubprocessScriptLauncher):
        launcher.launch(lambda: None, trainer=trainer)  # pyright: ignore[reportUnknownMemberType] - takes any Callable
    if not dist.is_initialized():
        trainer.strategy.connect(module)
        trainer.strategy.setup_environment()


def _timeout_of(trainer: L.Trainer) -> timedelta:
    # Both strategies for several processes take it as `timeout` and keep it under this name.
    timeout: timedelta | None = vars(trainer.strategy).get("_timeout")
    return timeout or default_pg_timeout
