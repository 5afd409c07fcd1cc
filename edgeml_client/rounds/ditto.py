"""Ditto for any training loop: a shared model, and a personal one pulled towards it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from edgeml_client.errors import ConfigurationError
from edgeml_client.rounds.local_training import (
    LocalTrainFn,
    ProximalTerm,
    copy_state,
    run_local_training,
    takes_proximal,
)
from edgeml_client.updates.arrays import State, describe, is_tensor, layout_of
from edgeml_client.updates.delta import compute_state_dict_delta

__all__ = ["DittoResult", "proximal_step", "train_ditto", "valid_strength"]


@dataclass(frozen=True, slots=True)
class DittoResult:
    """Both models after training; unpacks as ``global_update, personal_update, sample_count, metrics``.

    Attributes:
        global_update: The whole state of the shared model after training.
        personal_update: The whole state of the personal model, which stays on the device.
        sample_count: Samples behind the shared model.
        metrics: Metrics of the shared model.
        personal_metrics: Metrics of the personal model.
        global_delta: What to upload: ``global_update`` less the received global model.
    """

    global_update: State
    personal_update: State
    sample_count: int
    metrics: Mapping[str, float]
    personal_metrics: Mapping[str, float]
    global_delta: Mapping[str, Any]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.global_update, self.personal_update, self.sample_count, self.metrics))

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - as a tuple of four
        return tuple(iter(self))[index]


def train_ditto(
    global_model: State, personal_model: State, local_train_fn: LocalTrainFn, lambda_ditto: float = 0.1
) -> DittoResult:
    r"""Train the shared and the personal model for one round, each on its own copy.

    Ditto (Li et al., 2021, https://arxiv.org/abs/2012.04221, Algorithm 1): the shared model :math:`w` is
    trained plainly, and only its change is uploaded; the personal model minimises
    :math:`F(v) + \frac{\lambda}{2} \lVert v - w^t \rVert^2` with :math:`w^t` the global model *as received*.

    If ``local_train_fn`` takes a keyword ``proximal``, it is called with ``None`` for the shared model and
    with a :class:`ProximalTerm` for the personal one, and adds that term to its own gradient: the exact way.
    If it does not, it trains the personal model without the term, and :func:`proximal_step` follows.

    Args:
        global_model: The global model as received.
        personal_model: This device's own model, with the same names and shapes; at first the global one.
        local_train_fn: Maps a state to ``(state, sample_count, metrics)``; may train in place.
        lambda_ditto: Strength of the pull, at least 0; 0 is purely local training.

    Raises:
        ConfigurationError: ``lambda_ditto`` is negative, NaN or infinite.
        ModelMismatchError: The two models differ in names or shapes, or training changed them.
        NonFiniteError: Training of the shared model diverged.
    """
    strength = valid_strength(lambda_ditto, name="lambda_ditto")
    layout_of(global_model).require_same_arrays(
        layout_of(personal_model),
        summary="the personal model is not of the form of the global model:",
        match_dtypes=False,
    )
    shared = run_local_training(local_train_fn, copy_state(global_model))
    delta = compute_state_dict_delta(global_model, shared.state)
    term = ProximalTerm(anchor=copy_state(global_model), strength=strength)
    personal = run_local_training(local_train_fn, copy_state(personal_model), proximal=term)
    return DittoResult(
        global_update=shared.state,
        personal_update=(
            personal.state
            if takes_proximal(local_train_fn)
            else proximal_step(personal.state, global_model, strength=strength)
        ),
        sample_count=shared.sample_count,
        metrics=shared.metrics,
        personal_metrics=personal.metrics,
        global_delta=delta,
    )


def proximal_step(state: State, anchor: State, *, strength: float) -> dict[str, Any]:
    r"""Return the proximal operator of the pull towards ``anchor``, for every floating array.

    .. math:: \operatorname{prox}(v) = \arg\min_u \tfrac12 \lVert u - v \rVert^2
              + \tfrac{\lambda}{2} \lVert u - w \rVert^2 = \frac{v + \lambda w}{1 + \lambda}

    This is one step of the proximal gradient method with unit step size (Parikh & Boyd, 2014, *Proximal
    Algorithms*, section 4.2, https://doi.org/10.1561/2400000003). It cannot overshoot, whatever the strength.

    Args:
        state: The trained arrays :math:`v`; integer arrays come back as they are.
        anchor: The arrays :math:`w`.
        strength: :math:`\lambda`, at least 0.
    """
    return {
        name: _interpolated(value, anchor[name], strength) if describe(name, value).is_averaged else value
        for name, value in state.items()
    }


def _interpolated(value: Any, anchor: Any, strength: float) -> Any:  # noqa: ANN401 - torch or NumPy
    share = strength / (1.0 + strength)
    if is_tensor(value):
        target = cast("Any", anchor) if is_tensor(anchor) else value.new_tensor(anchor)
        return value.detach().lerp(target.detach().to(value.device, value.dtype), share)
    own = np.asarray(value)
    return own + (np.asarray(anchor, dtype=own.dtype) - own) * own.dtype.type(share)


def valid_strength(value: float, *, name: str) -> float:
    """Return a proximal strength as a float.

    Raises:
        ConfigurationError: It is no finite number of at least 0.
    """
    try:
        strength = float(value)
    except (TypeError, ValueError):
        strength = math.nan
    if not (math.isfinite(strength) and strength >= 0):
        raise ConfigurationError(f"{name} must be a finite number of at least 0, not {value!r}")
    return strength
