"""Which arrays of a module are received, which are sent, and which stay on the device."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from torch import Tensor, nn

from edgeml_client.errors import ConfigurationError
from edgeml_client.updates.array_names import is_under
from edgeml_client.wording import quoted
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import canonical_name, modules_by_path
from edgeml_lightning.norm_layers import BatchOrInstanceNorm

__all__ = ["BufferPolicy", "Partition", "partition"]

_MAX_COMPARED: Final = 200
"""A name of a megabyte is like none of ours, and takes minutes to compare."""

BufferPolicy = Literal["average", "local", "reset"]
"""What becomes of floating buffers such as BatchNorm's running statistics.

``average``: received and sent, like parameters. ``local``: they stay on the device, over all rounds.
``reset``: every round starts from the global model's, and what training makes of them is not sent.
"""


@dataclass(frozen=True, slots=True)
class Partition:
    """The arrays of one module, by canonical name, each tuple sorted.

    Integer and boolean arrays (BatchNorm's counters) may be received; they are never sent, because a mean of
    counters is none.

    Attributes:
        received: Loaded from the global model when a round starts.
        sent: Whose change travels when the round ends; a part of ``received``.
        kept: What the device keeps from round to round: the head, and buffers under the policy ``local``.
        fixed: What nothing changes, and so neither travels nor is kept: the frozen part of a model of which
            only trainable parameters are shared. It is loaded from the global model where that holds it.
    """

    received: tuple[str, ...]
    sent: tuple[str, ...]
    kept: tuple[str, ...]
    fixed: tuple[str, ...] = ()


def partition(
    module: nn.Module,
    *,
    private_layers: Sequence[str] = (),
    buffers: BufferPolicy = "average",
    trainable_only: bool = False,
) -> Partition:
    """Return how the arrays of ``module`` divide.

    Args:
        module: The model. The states of torchmetrics metrics in it belong to no model and are left out.
        private_layers: Paths of modules or of single arrays that stay on the device, matched by whole
            segments: ``bn1`` does not take ``bn10``.
        buffers: What becomes of floating buffers outside of ``private_layers``.
        trainable_only: Leave frozen parameters where they are, and with them the buffers of frozen layers:
            only parameters that require gradients travel. Running statistics of frozen layers, which every
            forward pass in training mode changes, stay on the device.

    Raises:
        ConfigurationError: A layer does not exist (the message lists those that do), a tensor is used
            on both sides of the boundary, or nothing would be left to share.
    """
    state = model_state(module)
    _check_layers_exist(module, state, private_layers)
    _check_ties(module, private_layers)
    private = {name for name in state if is_under(name, private_layers)}
    parameters = {canonical_name(name) for name, _ in module.named_parameters(remove_duplicate=False)}
    frozen = _frozen(module, state) - private if trainable_only else set[str]()
    stray = _running_statistics(module, frozen - parameters)
    if buffers == "local":
        stray |= set(state) - parameters - private - frozen
    fixed = frozen - stray
    received = set(state) - private - stray - fixed
    resting = set(state) - parameters if buffers == "reset" else set[str]()
    sent = {name for name in received - resting if state[name].is_floating_point()}
    if not sent & parameters:
        raise ConfigurationError(
            "no parameter is left to share: private layers and frozen parameters cover the whole model; name "
            "only its head as private, or let some of the rest require gradients"
            if fixed
            else "no parameter is left to share: the private layers cover the whole model; name only its head"
        )
    return Partition(
        received=tuple(sorted(received)),
        sent=tuple(sorted(sent)),
        kept=tuple(sorted(private | stray)),
        fixed=tuple(sorted(fixed)),
    )


def _frozen(module: nn.Module, names: Iterable[str]) -> set[str]:
    """Return the frozen parameters, and buffers whose innermost layer with parameters is frozen."""
    trainable: dict[str, bool] = {}
    for raw_name, parameter in module.named_parameters(remove_duplicate=False):
        name = canonical_name(raw_name)
        trainable[name] = parameter.requires_grad
        for layer in _layers_around(name):
            trainable[layer] = trainable.get(layer, False) or parameter.requires_grad
    return {
        name
        for name in names
        if not next((trainable[path] for path in (name, *_layers_around(name)) if path in trainable), True)
    }


def _running_statistics(module: nn.Module, buffers: Iterable[str]) -> set[str]:
    """Return those of ``buffers`` that a forward pass changes, however frozen their layer is."""
    layers = [path for path, child in modules_by_path(module) if isinstance(child, BatchOrInstanceNorm)]
    return {name for name in buffers if is_under(name, layers)}


def _layers_around(name: str) -> Iterator[str]:
    """Yield the paths of the modules around an array, the innermost first and the model, ``""``, last."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _check_layers_exist(module: nn.Module, state: dict[str, Tensor], layers: Iterable[str]) -> None:
    for layer in layers:
        if any(is_under(name, [layer]) for name in state):
            continue
        paths = sorted({path for path, _ in modules_by_path(module) if path})
        close = difflib.get_close_matches(layer[:_MAX_COMPARED], paths, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(
            f"the model has no layer {quoted(layer)} that holds arrays.{hint} "
            f"Its modules are: {', '.join(paths)}"
        )


def _check_ties(module: nn.Module, layers: Sequence[str]) -> None:
    sides: dict[int, tuple[str, bool]] = {}
    for raw_name, parameter in module.named_parameters(remove_duplicate=False):
        name = canonical_name(raw_name)
        private = is_under(name, layers)
        first, first_is_private = sides.setdefault(id(parameter), (name, private))
        if private != first_is_private:
            raise ConfigurationError(
                f"{first!r} and {name!r} are one and the same parameter, but only one of them is in the "
                "private layers: name both, or neither"
            )
