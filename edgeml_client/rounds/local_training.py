"""Calling the user's training function: what it gets, and what it must return."""

from __future__ import annotations

import inspect
import logging
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, cast

import numpy as np

from edgeml_client.errors import InvalidUpdateError
from edgeml_client.updates.arrays import State, is_tensor

__all__ = [
    "LocalTrainFn",
    "ProximalTerm",
    "ProximalTrainFn",
    "TrainResult",
    "Trained",
    "copy_state",
    "finite_metrics",
    "run_local_training",
    "takes_proximal",
    "valid_sample_count",
]

_LOG = logging.getLogger(__name__)
_NUM_PARTS: Final = 3

TrainResult: TypeAlias = tuple[Mapping[str, Any], int, Mapping[str, float] | None]
"""The trained state, the number of samples behind it, and metrics."""


@dataclass(frozen=True, slots=True)
class ProximalTerm:
    r"""The term :math:`\frac{s}{2} \lVert w - a \rVert^2` that a training loop adds to its loss.

    Attributes:
        anchor: The arrays :math:`a`, by name: the global model as received. Do not write to them.
        strength: :math:`s`, FedProx's mu or Ditto's lambda.
    """

    anchor: Mapping[str, Any]
    strength: float

    def gradient(self, name: str, value: Any) -> Any:  # noqa: ANN401 - the caller's kind of array
        """Return ``strength * (value - anchor)``, what the term adds to the gradient of array ``name``."""
        return self.strength * (value - self.anchor[name])


class ProximalTrainFn(Protocol):
    """A training function that applies the proximal term itself, when there is one."""

    def __call__(self, state: dict[str, Any], /, *, proximal: ProximalTerm | None) -> TrainResult:
        """Return the state trained from ``state``, the sample count, and metrics or ``None``."""
        ...


LocalTrainFn: TypeAlias = Callable[[dict[str, Any]], TrainResult] | ProximalTrainFn
"""A training loop: it may train in place, and may take the keyword ``proximal``."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training function returned, checked."""

    state: State
    sample_count: int
    metrics: dict[str, float]


def takes_proximal(train: LocalTrainFn) -> bool:
    """Return whether ``train`` names a parameter ``proximal``; a bare ``**kwargs`` does not count."""
    try:
        parameter = inspect.signature(train).parameters.get("proximal")
    except (TypeError, ValueError):
        return False
    by_keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return parameter is not None and parameter.kind in by_keyword


def copy_state(state: State) -> dict[str, Any]:
    """Return the state with every array copied, detached and on its own memory, each of its own kind."""
    return {
        name: value.detach().clone() if is_tensor(value) else np.array(value, copy=True)
        for name, value in state.items()
    }


def run_local_training(
    train: LocalTrainFn, state: dict[str, Any], *, proximal: ProximalTerm | None = None
) -> Trained:
    """Return what ``train`` makes of ``state``, which it may overwrite.

    Args:
        train: The training function; it gets ``proximal`` if it takes that keyword, also when it is ``None``.
        state: The arrays to start from.
        proximal: The proximal term; a function that does not take it trains without.

    Raises:
        InvalidUpdateError: It did not return a state, a positive sample count, and metrics or ``None``.
    """
    if takes_proximal(train):
        returned = cast("ProximalTrainFn", train)(state, proximal=proximal)
    else:
        returned = cast("Callable[[dict[str, Any]], TrainResult]", train)(state)
    return _checked(returned)


def _checked(returned: object) -> Trained:
    kind = type(returned).__name__
    if isinstance(returned, tuple) and len(cast("tuple[object, ...]", returned)) == _NUM_PARTS:
        state, sample_count, metrics = cast("tuple[object, object, object]", returned)
        if isinstance(state, Mapping) and (metrics is None or isinstance(metrics, Mapping)):
            return Trained(
                state=cast("State", state),
                sample_count=valid_sample_count(sample_count),
                metrics=finite_metrics(cast("Mapping[str, object] | None", metrics)),
            )
    raise InvalidUpdateError(
        "local_train_fn must return (state_dict, sample_count, metrics), with metrics a mapping or None; "
        f"it returned a {kind}"
    )


def valid_sample_count(value: object) -> int:
    """Return a sample count as an int.

    Raises:
        InvalidUpdateError: It is no whole number above 0: such an update cannot be weighted.
    """
    try:
        count = operator.index(cast("int", value))
    except TypeError:
        count = 0
    if isinstance(value, bool) or count < 1:
        raise InvalidUpdateError(
            f"sample_count must be a whole number of at least 1, not {value!r}: it weights the update"
        )
    return count


def finite_metrics(metrics: Mapping[str, object] | None) -> dict[str, float]:
    """Return the metrics that are finite numbers, as floats; the others are left out with a warning."""
    kept: dict[str, float] = {}
    for name, value in (metrics or {}).items():
        try:
            number = float(cast("float", value))
        except (TypeError, ValueError, RuntimeError):
            number = math.nan
        if math.isfinite(number):
            kept[str(name)] = number
        else:
            _LOG.warning("metric %r is no finite number and is not sent: %.100r", name, value)
    return kept
