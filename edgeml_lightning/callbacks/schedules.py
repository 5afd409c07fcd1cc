"""Learning-rate schedules of a second model, stepped when Lightning steps those of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import lightning as L
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.naming import PERSONAL_PREFIX

__all__ = ["step_schedules"]


def step_schedules(
    module: L.LightningModule,
    configs: Sequence[LRSchedulerConfig],
    *,
    interval: Literal["step", "epoch"],
    number: int,
    plateau: bool,
    metrics: Mapping[str, Tensor],
) -> None:
    """Step the schedules that are due.

    Args:
        module: The personal model; its ``lr_scheduler_step`` is called.
        configs: Its schedules.
        interval: Whether a step or an epoch ended.
        number: Which one, from 1.
        plateau: Whether those that watch a metric are due, or those that do not.
        metrics: What was measured. A watched metric is looked up under ``personal/`` first.

    Raises:
        ConfigurationError: A watched metric is absent, and the schedule is strict.
    """
    for config in configs:
        if config.interval != interval or config.reduce_on_plateau != plateau or number % config.frequency:
            continue
        if not plateau:
            module.lr_scheduler_step(config.scheduler, None)
            continue
        watched = metrics.get(f"{PERSONAL_PREFIX}{config.monitor}", metrics.get(str(config.monitor)))
        if watched is not None:
            module.lr_scheduler_step(config.scheduler, watched)
        elif config.strict:
            raise ConfigurationError(
                f"a learning-rate schedule watches {config.monitor!r}, which was not logged; "
                f"available are: {', '.join(sorted(metrics))}"
            )
