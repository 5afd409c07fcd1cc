"""Deltas for property tests: a few named arrays of finite float32 numbers, many of them equal."""

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

__all__ = ["as_vector", "deltas"]

_numbers = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5]),
    st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False),
)


def deltas() -> st.SearchStrategy[dict[str, npt.NDArray[np.float32]]]:
    """Return a strategy for deltas of one to three arrays; scalars and empty arrays are among them."""
    arrays = np_st.arrays(
        np.float32, np_st.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=_numbers
    )
    return st.dictionaries(st.sampled_from(["a.weight", "a.bias", "b"]), arrays, min_size=1, max_size=3)


def as_vector(delta: Any) -> npt.NDArray[np.float64]:
    """Return all numbers of a delta in the order of its names, in float64."""
    return np.concatenate([np.asarray(delta[name], np.float64).reshape(-1) for name in sorted(delta)])
