"""Whatever bytes arrive in a coded file: a clear error, or an update of the registered model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml_client.errors import InvalidUpdateError, ModelMismatchError
from edgeml_client.updates import ArraySpec, Layout, open_update

GOLDEN = Path(__file__).parent / "golden"
NAMES = [
    "int4-top-tenth",
    "int8-each-array",
    "int16-half-bitmap",
    "float32-top-tenth",
    "int4-every",
    "int8-rank-3",
    "float32-rank-2",
]
LAYOUT = Layout.of(
    ArraySpec(name, shape, "F32")
    for name, shape in {
        "body.weight": (40, 50),
        "body.bias": (40,),
        "head.weight": (7, 3),
        "scale": (),
    }.items()
)
edits = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=5)
cuts = st.one_of(st.just(0), st.integers(1, 300))


@settings(max_examples=250, deadline=None, database=None)
@given(st.sampled_from(NAMES), edits, cuts, st.booleans())
def test_damaged_files_are_refused_or_read_as_the_model(
    name: str,
    damage: list[tuple[int, int]],
    cut: int,
    spare_the_header: bool,  # noqa: FBT001 - drawn
) -> None:
    data = bytearray((GOLDEN / f"{name}.update").read_bytes())
    first = int.from_bytes(data[:8], "little") + 8 if spare_the_header else 0
    for position, value in damage:
        data[first + position % (len(data) - first)] = value
    damaged = bytes(data[: len(data) - cut])

    try:
        update = open_update(damaged, LAYOUT)
        update.check_finite()
        arrays = dict(update.arrays())
    except (InvalidUpdateError, ModelMismatchError):
        return

    expected = LAYOUT.without(update.header.private)
    assert [(key, array.shape) for key, array in arrays.items()] == [(s.name, s.shape) for s in expected]
    assert all(np.isfinite(array).all() for array in arrays.values())


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(name: str) -> None:
    data = (GOLDEN / f"{name}.update").read_bytes()

    for length in range(0, len(data), 7):
        with pytest.raises(InvalidUpdateError):
            open_update(data[:length], LAYOUT).check_finite()
