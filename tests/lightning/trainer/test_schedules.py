"""Every schedule of torch goes on over a restart, unless it is given other settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as torch_schedules

from edgeml_lightning.trainer.schedules import (
    GivenSettings,
    as_text,
    from_text,
    read_schedules,
    restore_schedules_,
)

Make = Callable[[Optimizer], Any]

KINDS: dict[str, Make] = {
    "steps": lambda optimizer: torch_schedules.StepLR(optimizer, 2),
    "milestones": lambda optimizer: torch_schedules.MultiStepLR(optimizer, [1, 6]),
    "plateau": lambda optimizer: torch_schedules.ReduceLROnPlateau(optimizer, patience=1),
    "one cycle": lambda optimizer: torch_schedules.OneCycleLR(optimizer, 0.5, total_steps=20),
    "cyclic": lambda optimizer: torch_schedules.CyclicLR(optimizer, 0.01, 0.1, step_size_up=7),
    "warm restarts": lambda optimizer: torch_schedules.CosineAnnealingWarmRestarts(optimizer, 4),
    "one function": lambda optimizer: torch_schedules.LambdaLR(optimizer, lambda step: 0.9**step),
    "one after the other": lambda optimizer: torch_schedules.SequentialLR(
        optimizer,
        [torch_schedules.LinearLR(optimizer), torch_schedules.CosineAnnealingLR(optimizer, 10)],
        milestones=[3],
    ),
    "several at once": lambda optimizer: torch_schedules.ChainedScheduler(
        [torch_schedules.ConstantLR(optimizer), torch_schedules.ExponentialLR(optimizer, 0.9)]
    ),
}


def trainer_with(make: Make) -> Any:
    """Return what is read of a trainer that has one optimizer and one schedule."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    return SimpleNamespace(
        optimizers=[optimizer], lr_scheduler_configs=[SimpleNamespace(scheduler=make(optimizer))]
    )


def rates(trainer: Any, *, num_steps: int) -> list[float]:
    """Take steps on which nothing gets better, and return the learning rate after each."""
    (optimizer,), (config,) = trainer.optimizers, trainer.lr_scheduler_configs
    seen = []
    for _ in range(num_steps):
        optimizer.step()
        if isinstance(config.scheduler, torch_schedules.ReduceLROnPlateau):
            config.scheduler.step(1.0)
        else:
            config.scheduler.step()
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_goes_on_over_a_restart(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Four steps, a way through JSON, and six steps are ten steps."""
    expected = rates(trainer_with(KINDS[kind]), num_steps=10)
    before, after = trainer_with(KINDS[kind]), trainer_with(KINDS[kind])
    given = GivenSettings.of(before)
    first = rates(before, num_steps=4)
    text = as_text(read_schedules(before, given=given))

    with caplog.at_level(logging.WARNING):
        restore_schedules_(after, from_text(text), given=GivenSettings.of(after))

    assert [*first, *rates(after, num_steps=6)] == expected
    assert not caplog.messages
    assert len(set(expected)) > 1, "a rate that stays the same shows nothing"


def test_a_change_is_named_with_both_values() -> None:
    before, after = (
        GivenSettings.of(trainer_with(lambda optimizer, g=gamma: torch_schedules.StepLR(optimizer, 2, g)))
        for gamma in (0.5, 0.9)
    )

    assert list(after.changes_since(before)) == ["gamma of schedule 0 is 0.9 and was 0.5"]
    assert list(before.changes_since(before)) == []
