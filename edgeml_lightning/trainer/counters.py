"""The numbers by which a Lightning trainer counts epochs, batches and steps, to read and to set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L

if TYPE_CHECKING:
    from pydantic import JsonValue

__all__ = ["read_counters", "set_counters_"]


def read_counters(trainer: L.Trainer) -> dict[str, JsonValue]:
    """Return where a trainer stands, as plain JSON."""
    numbers: dict[str, Any] = {name: counter.state_dict() for name, counter in _counters(trainer).items()}
    return numbers | {"logger_steps": trainer.fit_loop.epoch_loop._batches_that_stepped}  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - what loggers call a step


def set_counters_(trainer: L.Trainer, numbers: dict[str, Any]) -> None:
    """Let a trainer count on from what :func:`read_counters` returned, perhaps for another trainer."""
    for name, counter in _counters(trainer).items():
        counter.load_state_dict(numbers[name])
    trainer.fit_loop.epoch_loop._batches_that_stepped = numbers["logger_steps"]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above


def _counters(trainer: L.Trainer) -> dict[str, Any]:
    loop = trainer.fit_loop
    return {
        "epochs": loop.epoch_progress,
        "batches": loop.epoch_loop.batch_progress,
        "steps": loop.epoch_loop.automatic_optimization.optim_progress,
        "manual_steps": loop.epoch_loop.manual_optimization.optim_step_progress,
        "schedules": loop.epoch_loop.scheduler_progress,
    }
