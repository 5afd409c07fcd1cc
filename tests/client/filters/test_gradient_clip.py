"""gradient_clip bounds the norm of the whole update, and changes its direction not at all."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from tests.client.filters.arrays_strategy import as_vector, deltas


def _clip(delta: Any, max_norm: float) -> Any:
    return apply_filters(delta, [{"type": "gradient_clip", "max_norm": max_norm}])


def test_the_bound_holds_for_all_arrays_together() -> None:
    """Arrays (3, 0) and (0, 4) have norm 5 together: a bound of 1 scales both by 1/5."""
    delta = {"a": np.array([3.0, 0.0]), "b": np.array([0.0, 4.0])}

    clipped = _clip(delta, 1.0)

    assert clipped["a"].tolist() == pytest.approx([0.6, 0.0], rel=1e-6)
    assert clipped["b"].tolist() == pytest.approx([0.0, 0.8], rel=1e-6)


def test_an_update_within_the_bound_passes_bit_for_bit() -> None:
    delta = {"a": np.array([0.3, -0.4], np.float32)}

    assert _clip(delta, 0.51)["a"].tobytes() == delta["a"].tobytes()


@given(delta=deltas(), max_norm=st.floats(1e-3, 1e3))
def test_no_update_leaves_above_the_bound(delta: Any, max_norm: float) -> None:
    assert np.linalg.norm(as_vector(_clip(delta, max_norm).delta)) <= max_norm


@given(delta=deltas(), max_norm=st.floats(1e-3, 1e3))
def test_the_direction_stays(delta: Any, max_norm: float) -> None:
    before, after = as_vector(delta), as_vector(_clip(delta, max_norm).delta)
    norm = np.linalg.norm(before)
    expected = before * min(1.0, max_norm / norm) if norm else before

    np.testing.assert_allclose(after, expected, rtol=1e-6, atol=1e-30)
