"""Learning rate schedules that go on over rounds, unless the module gives them other settings than before."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import lightning as L
from torch import Tensor

if TYPE_CHECKING:
    from pydantic import JsonValue

__all__ = ["GivenSettings", "as_text", "from_text", "read_schedules", "restore_schedules_"]

_log = logging.getLogger(__name__)

_SCHEDULED: Final = (
    "lr",
    "initial_lr",
    "max_lr",
    "min_lr",
    "momentum",
    "base_momentum",
    "max_momentum",
    "betas",
)
"""The settings of an optimizer's group that schedules change."""


@dataclass(frozen=True, slots=True)
class GivenSettings:
    """What a module's ``configure_optimizers`` asks for, read before the first step of a round.

    Attributes:
        settings: By what it is called to the user, each setting of a schedule or of an optimizer's group, in
            values that are equal after a way through JSON.
    """

    settings: Mapping[str, JsonValue]

    @classmethod
    def of(cls, trainer: L.Trainer) -> GivenSettings:
        """Read them from a trainer whose schedules have not begun."""
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        return cls(
            {f"schedule {i}": _kind_of(schedule) for i, schedule in enumerate(schedules)}
            | {
                f"{name} of schedule {i}": _plain(value)
                for i, schedule in enumerate(schedules)
                for name, value in cast("Mapping[str, object]", schedule.state_dict()).items()
            }
            | {
                f"{name} of parameter group {i}": _plain(value)
                for i, group in enumerate(_groups(trainer))
                for name, value in group.items()
            }
        )

    def changes_since(self, before: GivenSettings) -> Iterator[str]:
        """Yield, in words for the user, what is not as it was."""
        for name in sorted({*self.settings, *before.settings}):
            now, then = (each.settings.get(name, "nothing") for each in (self, before))
            if now != then:
                yield f"{name} is {now} and was {then}"


def read_schedules(trainer: L.Trainer, *, given: GivenSettings) -> dict[str, Any]:
    """Return where schedules stand, and what they were given when they began."""
    return {
        "given": dict(given.settings),
        "schedules": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
        "groups": _groups(trainer),
    }


def restore_schedules_(trainer: L.Trainer, saved: Mapping[str, Any], *, given: GivenSettings) -> None:
    """Put schedules to where :func:`read_schedules` found them, if they are given the same settings as then.

    The state of a schedule holds its settings too: put back, it would undo what the user changed. So where a
    setting is another, schedules start anew, with a warning that names it.
    """
    if not saved:
        return
    if changes := list(given.changes_since(GivenSettings(saved["given"]))):
        _log.warning(
            "learning rate schedules start anew, because the module gives other settings than in the round "
            "before: %s",
            "; ".join(changes),
        )
        return
    for config, state in zip(trainer.lr_scheduler_configs, saved["schedules"], strict=True):
        config.scheduler.load_state_dict(state)
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    for group, settings in zip(groups, saved["groups"], strict=True):
        group.update(settings)


def as_text(schedules: Mapping[str, Any]) -> str:
    """Return what :func:`read_schedules` returned as JSON; nothing, with a warning, if it is no data."""
    try:
        return json.dumps(schedules)
    except (TypeError, ValueError) as exc:
        _log.warning(
            "learning rate schedules will start anew after a restart: their state is no plain data (%s)", exc
        )
        return "{}"


def from_text(text: str) -> dict[str, Any]:
    """Return what :func:`as_text` wrote."""
    read: dict[str, Any] = json.loads(text, object_hook=_with_numbers)
    return read


def _groups(trainer: L.Trainer) -> list[dict[str, Any]]:
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return [{name: group[name] for name in _SCHEDULED if name in group} for group in groups]


def _kind_of(schedule: object) -> str:
    inner: list[object] = vars(schedule).get("_schedulers", [])
    return " ".join([type(schedule).__qualname__, *map(_kind_of, inner)])


def _plain(value: object) -> JsonValue:
    """Return a value such as JSON gives back; a mapping as pairs, and of what is no data its type."""
    if isinstance(value, Tensor):
        return cast("JsonValue", value.tolist())  # pyright: ignore[reportUnknownMemberType] - numbers in lists
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return [[_plain(key), _plain(entry)] for key, entry in pairs]
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in cast("Sequence[object]", value)]
    if value is None or isinstance(value, str | int | float):
        return value
    return type(value).__qualname__


def _with_numbers(read: dict[str, Any]) -> dict[Any, Any]:
    """Give the keys of a ``Counter``, MultiStepLR's milestones, back the type that JSON took from them."""
    is_counter = bool(read) and all(key.isdigit() for key in read)
    return Counter({int(key): value for key, value in read.items()}) if is_counter else read
