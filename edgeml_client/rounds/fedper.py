"""FedPer for any training loop: the body is shared, the head stays on the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from edgeml_client.errors import ConfigurationError
from edgeml_client.rounds.local_training import LocalTrainFn, copy_state, run_local_training
from edgeml_client.updates.array_names import is_under
from edgeml_client.updates.arrays import State
from edgeml_client.updates.delta import compute_state_dict_delta

__all__ = ["private_names", "train_fedper"]


def private_names(names: Iterable[str], head_layers: Sequence[str]) -> tuple[str, ...]:
    """Return the arrays that belong to the head, ascending.

    A layer is a module path or the full name of an array, and whole segments count: ``bn1`` takes
    ``bn1.weight`` but not ``bn10.weight``.

    Raises:
        ConfigurationError: A layer takes no array (the message lists the module paths there are), or the
            layers take them all.

    Example:
        >>> private_names(["bn1.weight", "bn10.weight", "head.0.bias"], ["bn1", "head.0.bias"])
        ('bn1.weight', 'head.0.bias')
    """
    if isinstance(head_layers, str):
        raise ConfigurationError(f"head_layers is a list of module paths, such as [{head_layers!r}]")
    known = sorted(names)
    for layer in head_layers:
        if not any(is_under(name, [layer]) for name in known):
            raise ConfigurationError(
                f"head layer {layer!r} matches nothing; the module paths are: {', '.join(_paths(known))}"
            )
    private = tuple(name for name in known if is_under(name, head_layers))
    if private and len(private) == len(known):
        raise ConfigurationError("head_layers takes the whole model; name only its head")
    return private


def train_fedper(
    model: State, head_layers: Sequence[str], local_train_fn: LocalTrainFn
) -> tuple[dict[str, Any], int, dict[str, float]]:
    """Train the whole model and return ``(body_delta, sample_count, metrics)``: the head is not in it.

    FedPer (Arivazhagan et al., 2019, https://arxiv.org/abs/1912.00818, Algorithm 1). The trained head is in
    the state that ``local_train_fn`` returns; keeping it for the next round is up to the caller.

    Args:
        model: The global body with this device's own head. It is not changed.
        head_layers: The private layers, see :func:`private_names`.
        local_train_fn: Maps a state to ``(state, sample_count, metrics)``; may train in place.

    Raises:
        ConfigurationError: A layer takes no array, or nothing is left to share.
        ModelMismatchError: Training changed names or shapes.
        NonFiniteError: Training diverged.
    """
    head = frozenset(private_names(model, head_layers))
    trained = run_local_training(local_train_fn, copy_state(model))
    delta = compute_state_dict_delta(model, trained.state)
    body = {name: change for name, change in delta.items() if name not in head}
    return body, trained.sample_count, trained.metrics


def _paths(names: Iterable[str]) -> list[str]:
    segments = (name.split(".")[:-1] for name in names)
    return sorted({".".join(path[: depth + 1]) for path in segments for depth in range(len(path))})
