"""What training changed: local after training minus global before."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import NonFiniteError
from edgeml_client.updates.arrays import Array, State, as_numpy, like
from edgeml_client.updates.layout import DType
from edgeml_client.updates.streamed_delta import require_same
from edgeml_client.updates.vector import sum_of_squares

__all__ = ["compute_state_dict_delta"]


def compute_state_dict_delta(base_state: State, updated_state: State) -> dict[str, Any]:
    """Return ``updated_state - base_state`` for every floating array, as float32.

    Each difference is of the kind of its updated array: a torch tensor on the CPU, or a NumPy array. It
    is computed in float32, in float64 where either side has that dtype, and then rounded to float32;
    16-bit states are widened first, so no precision is lost. Integer and boolean arrays (step counters,
    masks) are left out, because they are never averaged. Neither state is changed, and the result shares
    no memory with them. Tied tensors give one entry under each of their names.

    Args:
        base_state: The global model as it was received.
        updated_state: The same arrays after local training, on any device.

    Raises:
        ModelMismatchError: An array is missing, extra or of another shape, or one side is floating and the
            other is not; the message lists all of them.
        NonFiniteError: A difference is NaN or Inf; the error names the first such array.

    Example:
        >>> base = {"w": np.array([1.0, 2.0], np.float32), "steps": np.array(3)}
        >>> compute_state_dict_delta(base, {"w": np.array([1.5, 2.0], np.float32), "steps": np.array(9)})
        {'w': array([0.5, 0. ], dtype=float32)}
    """
    base, updated = require_same(base_state, updated_state)
    delta: dict[str, Any] = {}
    for name in (name for name in base_state if base[name].is_averaged):
        wide: DType = "F64" if "F64" in (base[name].dtype, updated[name].dtype) else "F32"
        difference = _difference(base_state[name], updated_state[name], wide=wide)
        if not math.isfinite(sum_of_squares(difference.reshape(-1))):
            raise NonFiniteError(name)
        delta[name] = like(updated_state[name], difference)
    return delta


def _difference(before: Array, after: Array, *, wide: DType) -> npt.NDArray[np.float32]:
    dtype = np.float64 if wide == "F64" else np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.subtract(as_numpy(after, dtype=dtype), as_numpy(before, dtype=dtype))
        return np.asarray(exact).astype(np.float32, copy=False)
