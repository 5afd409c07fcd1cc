"""norm_validation refuses an update as a whole, never a part of it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeml_client import apply_filters
from edgeml_client.errors import InvalidUpdateError, NormExceededError
from tests.client.filters.arrays_strategy import as_vector, deltas

DELTA = {"small": np.array([0.1]), "large": np.array([3.0, 4.0])}


def test_an_update_above_the_bound_is_refused_with_both_figures() -> None:
    with pytest.raises(NormExceededError, match="exceeds max_norm 5") as caught:
        apply_filters(DELTA, [{"type": "norm_validation", "max_norm": 5.0}])

    assert isinstance(caught.value, InvalidUpdateError)
    assert caught.value.norm == pytest.approx(np.sqrt(25.01), rel=1e-6)
    assert caught.value.max_norm == 5.0


def test_an_update_within_the_bound_passes_untouched() -> None:
    passed = apply_filters(DELTA, [{"type": "norm_validation", "max_norm": 5.01}])

    assert passed["large"].tolist() == [3, 4]


@given(delta=deltas(), max_norm=st.floats(1e-3, 1e6))
def test_an_update_passes_bit_for_bit_or_not_at_all(delta: Any, max_norm: float) -> None:
    """The bound is on the norm over all arrays, in float64; ties between the two ways to sum are left out."""
    norm = float(np.linalg.norm(as_vector(delta)))
    assume(abs(norm - max_norm) > 1e-9 * max_norm)
    filters = [{"type": "norm_validation", "max_norm": max_norm}]

    if norm > max_norm:
        with pytest.raises(NormExceededError):
            apply_filters(delta, filters)
    else:
        passed = apply_filters(delta, filters)
        assert all(passed[name].tobytes() == array.tobytes() for name, array in delta.items())


def test_what_was_clipped_to_a_bound_is_within_that_bound() -> None:
    rng = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3):
        delta = {"w": rng.standard_normal(10_001) * 50}
        filters = [
            {"type": "gradient_clip", "max_norm": scale},
            {"type": "norm_validation", "max_norm": scale},
        ]

        passed = apply_filters(delta, filters)

        assert np.linalg.norm(passed["w"]) == pytest.approx(scale, rel=1e-5)
