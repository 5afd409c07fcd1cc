"""The optimizer's memory of single parameters, by the parameters' names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeml_lightning.distributed.sharding import placed_like, whole_tensor
from edgeml_lightning.naming import divided_by_prefix, with_prefix

__all__ = ["OptimizerState", "named_optimizer_state", "remembered_bytes", "restore_optimizer_state_"]

_log = logging.getLogger(__name__)

_SEPARATOR: Final = "//"
"""Between a parameter's name and the name of a piece of its state; neither holds it."""

_SHAPING: Final = ("amsgrad", "centered", "momentum")
"""Settings of a group that decide which pieces an optimizer remembers."""


@dataclass(frozen=True, slots=True)
class OptimizerState:
    """What optimizers remember of some parameters: momentum, second moments, step counts.

    Learning rates and other settings are not part of it: they come from ``configure_optimizers``.

    Attributes:
        tensors: Pieces of state that are tensors, keyed ``<parameter>//<piece>``.
        numbers: Pieces that are plain numbers, keyed likewise.
        kinds: By parameter, the kind of optimizer that remembered: another could not read it.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])

    def joined_with(self, other: OptimizerState, *, prefix: str) -> OptimizerState:
        """Return this and ``other``, whose parameters are called with ``prefix`` in front of their names."""
        return OptimizerState(
            {**self.tensors, **with_prefix(other.tensors, prefix)},
            {**self.numbers, **with_prefix(other.numbers, prefix)},
            {**self.kinds, **with_prefix(other.kinds, prefix)},
        )

    def divided(self, prefix: str) -> tuple[OptimizerState, OptimizerState]:
        """Return what :meth:`joined_with` joined: what stands under ``prefix``, and the rest."""
        tensors, other_tensors = divided_by_prefix(self.tensors, prefix)
        numbers, other_numbers = divided_by_prefix(self.numbers, prefix)
        kinds, other_kinds = divided_by_prefix(self.kinds, prefix)
        return (
            OptimizerState(tensors, numbers, kinds),
            OptimizerState(other_tensors, other_numbers, other_kinds),
        )


def named_optimizer_state(
    optimizers: Iterable[Optimizer], names: Mapping[nn.Parameter, str]
) -> OptimizerState:
    """Return copies, on the CPU, of what ``optimizers`` remember of the named parameters, whole.

    Half of a memory is none: a parameter with pieces that are neither tensors nor numbers is left out. So are
    those of LBFGS, which has its past steps in lists.
    """
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for optimizer in optimizers:
        kind_of = _kinds(optimizer)
        for parameter, pieces in _remembered(optimizer, names):
            name = names[parameter]
            kinds[name] = kind_of[parameter]
            for piece, value in pieces.items():
                key = f"{name}{_SEPARATOR}{piece}"
                if isinstance(value, Tensor):
                    tensors[key] = whole_tensor(value.detach()).to("cpu", copy=True).contiguous()
                elif isinstance(value, int | float):
                    numbers[key] = value
    return OptimizerState(tensors, numbers, kinds)


def remembered_bytes(optimizers: Iterable[Optimizer], names: Mapping[nn.Parameter, str]) -> int:
    """Return how many bytes the tensors of :func:`named_optimizer_state` take, without copying them."""
    return sum(
        value.nbytes
        for optimizer in optimizers
        for _, pieces in _remembered(optimizer, names)
        for value in pieces.values()
        if isinstance(value, Tensor)
    )


def _remembered(
    optimizer: Optimizer, names: Mapping[nn.Parameter, str]
) -> Iterator[tuple[nn.Parameter, Mapping[str, object]]]:
    """Yield what an optimizer remembers of each named parameter, where all of it can be kept."""
    state = cast("Mapping[object, Mapping[str, object]]", optimizer.state)
    for parameter, pieces in state.items():
        if not isinstance(parameter, nn.Parameter) or parameter not in names:
            continue
        if all(map(_can_be_kept, pieces.values())):
            yield parameter, pieces


def _can_be_kept(piece: object) -> bool:
    return piece is None or isinstance(piece, Tensor | int | float)


@torch.no_grad()
def restore_optimizer_state_(
    optimizers: Iterable[Optimizer], names: Mapping[nn.Parameter, str], state: OptimizerState
) -> None:
    """Give optimizers back what they remembered of the named parameters.

    Tensors of a parameter's shape go to its device and dtype; others, such as step counts, stay as they
    are. Parameters of which ``state`` knows nothing start anew, and so do, with a warning, those that another
    kind of optimizer trained before.
    """
    by_parameter: dict[str, dict[str, Tensor | float]] = {}
    remembered: Mapping[str, Tensor | float] = {**state.tensors, **state.numbers}
    for key, value in remembered.items():
        name, _, piece = key.partition(_SEPARATOR)
        by_parameter.setdefault(name, {})[piece] = value
    foreign: set[tuple[str, str]] = set()
    for optimizer in optimizers:
        for parameter, kind in _kinds(optimizer).items():
            name = names.get(parameter, "")
            pieces = by_parameter.get(name)
            if pieces and state.kinds.get(name) == kind:
                optimizer.state[parameter] = {
                    piece: _fitted(value, parameter) for piece, value in pieces.items()
                }
            elif pieces:
                foreign.add((state.kinds.get(name, "another"), kind))
    for before, now in sorted(foreign):
        _log.warning(
            "the optimizer is %s and was %s in the round before: its memory of what that one trained "
            "starts anew",
            now,
            before,
        )


def _kinds(optimizer: Optimizer) -> dict[nn.Parameter, str]:
    """Return, for each parameter, the optimizer's class and the settings that decide what it remembers."""
    kinds: dict[nn.Parameter, str] = {}
    for group in optimizer.param_groups:
        settings = [name for name in _SHAPING if group.get(name)]
        kind = " ".join([type(optimizer).__qualname__, *(f"with {name}" for name in settings)])
        kinds.update(dict.fromkeys(cast("list[nn.Parameter]", group["params"]), kind))
    return kinds


def _fitted(value: Tensor | float, parameter: Tensor) -> Tensor | float:
    if not isinstance(value, Tensor):
        return value
    if value.shape == parameter.shape and value.is_floating_point() and value.dim() > 0:
        return placed_like(value, parameter)
    return value.clone()
