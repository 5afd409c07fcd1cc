"""Which arrays of a module are received, which are sent, and which stay on the device."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from edgeml_client.errors import ConfigurationError
from edgeml_lightning.exchange import model_state
from edgeml_lightning.naming import canonical_name, is_under, modules_by_path

__all__ = ["BufferPolicy", "Partition", "partition"]

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
    """

    received: tuple[str, ...]
    sent: tuple[str, ...]
    kept: tuple[str, ...]


def partition(
    module: nn.Module, *, private_layers: Sequence[str] = (), buffers: BufferPolicy = "average"
) -> Partition:
    """Return how the arrays of ``module`` divide.

    Args:
        module: The model. The states of torchmetrics metrics in it belong to no model and are left out.
        private_layers: Paths of modules or of single arrays that stay on the device, matched by whole
            segments: ``bn1`` does not take ``bn10``.
        buffers: What becomes of floating buffers outside of ``private_layers``.

    Raises:
        ConfigurationError: A layer does not exist (the message lists those that do), a tensor is used
            on both sides of the boundary, or nothing would be left to share.
    """
    state = model_state(module)
    _check_layers_exist(module, state, private_layers)
    _check_ties(module, private_layers)
    private = {name for name in state if is_under(name, private_layers)}
    parameters = {canonical_name(name) for name, _ in module.named_parameters(remove_duplicate=False)}
    stray = set(state) - parameters - private if buffers == "local" else set[str]()
    received = set(state) - private - stray
    resting = set(state) - parameters if buffers == "reset" else set[str]()
    sent = {name for name in received - resting if state[name].is_floating_point()}
    if not sent & parameters:
        raise ConfigurationError(
            "no parameter is left to share: the private layers cover the whole model; name only its head"
        )
    return Partition(
        received=tuple(sorted(received)), sent=tuple(sorted(sent)), kept=tuple(sorted(private | stray))
    )


def _check_layers_exist(module: nn.Module, state: dict[str, Tensor], layers: Iterable[str]) -> None:
    for layer in layers:
        if any(is_under(name, [layer]) for name in state):
            continue
        paths = sorted({path for path, _ in modules_by_path(module) if path})
        close = difflib.get_close_matches(layer, paths, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(
            f"the model has no layer {layer!r} that holds arrays.{hint} Its modules are: {', '.join(paths)}"
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
