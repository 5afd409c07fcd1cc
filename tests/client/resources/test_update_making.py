"""What leaves a device and what stays, whether the control plane reads coded updates or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeml_client.errors import NonFiniteError
from edgeml_client.filters import resolve_filters
from edgeml_client.resources.update_making import MadeUpdate, make_update
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import DeltaVector, UpdateFile, compute_state_dict_delta, delta_vector, open_update
from edgeml_client.updates.coding import CodedUpdateFile
from edgeml_client.updates.coding.residual import ResidualMark, ResidualStore

DELTA = {
    "a": np.array([[4.0, -1.0], [0.5, 0.25]], np.float32),
    "b": np.array([-3.0, 0.125, 0.0, 2.0], np.float32),
}
LAYOUT = DeltaVector.of(DELTA).layout
TOP_HALF: list[dict[str, Any]] = [{"type": "sparsification", "top_k": 0.5}]
FEEDBACK: list[dict[str, Any]] = [{"type": "error_feedback"}, *TOP_HALF]


def header_for(trail: tuple[dict[str, Any], ...], round_id: str = "r-1") -> UpdateHeader:
    return UpdateHeader(
        round_id=round_id,
        model_id="m",
        base_version="1",
        base_digest="sha256:0",
        device_id="d",
        sample_count=1,
        filters=trail,
    )


def make(
    filters: list[dict[str, Any]], folder: Path, *, allow_coded: bool = True, delta: Any = None
) -> MadeUpdate:
    return make_update(
        DELTA if delta is None else delta,
        resolve_filters(filters),
        header_for=header_for,
        layout=LAYOUT,
        residuals=ResidualStore(folder),
        allow_coded=allow_coded,
    )


def numbers_in(made: MadeUpdate) -> list[float]:
    return [x for _, array in open_update(made.data, LAYOUT).arrays() for x in array.reshape(-1).tolist()]


def test_sparsified_updates_are_coded_where_that_is_read(tmp_path: Path) -> None:
    coded, dense = make(TOP_HALF, tmp_path), make(TOP_HALF, tmp_path, allow_coded=False)

    assert isinstance(open_update(coded.data, LAYOUT), CodedUpdateFile)
    assert isinstance(open_update(dense.data, LAYOUT), UpdateFile)
    assert numbers_in(coded) == numbers_in(dense) == [4.0, -1.0, 0, 0, -3.0, 0, 0, 2.0]
    assert coded.left_out is dense.left_out is None


def test_filters_that_cannot_be_coded_give_a_dense_update(tmp_path: Path) -> None:
    made = make([{"type": "gradient_clip", "max_norm": 100.0}], tmp_path)

    assert isinstance(open_update(made.data, LAYOUT), UpdateFile)
    assert numbers_in(made) == [4.0, -1.0, 0.5, 0.25, -3.0, 0.125, 0.0, 2.0]


@pytest.mark.parametrize("allow_coded", [True, False])
def test_error_feedback_adds_what_was_left_out_before(tmp_path: Path, *, allow_coded: bool) -> None:
    """Kept before: 0.75 on the last number of a. 0.25 + 0.75 = 1 equals |-1|, which comes first."""
    kept = DeltaVector(np.zeros(8, np.float32), LAYOUT)
    kept.values[3] = 0.75
    mark = ResidualMark(model_id="m", round_id="r-0", base_digest="sha256:0", update_digest="sha256:1")
    ResidualStore(tmp_path).stage(kept, mark).commit()

    made = make(FEEDBACK, tmp_path, allow_coded=allow_coded)

    assert isinstance(open_update(made.data, LAYOUT), CodedUpdateFile if allow_coded else UpdateFile)
    assert numbers_in(made) == [4.0, -1.0, 0, 0, -3.0, 0, 0, 2.0]
    assert made.left_out is not None
    assert made.left_out.values.tolist() == [0, 0, 0.5, 1.0, 0, 0.125, 0, 0]
    assert DELTA["a"][1, 1] == 0.25


def test_the_audit_trail_names_all_filters_in_order(tmp_path: Path) -> None:
    filters = [{"type": "gradient_clip", "max_norm": 1.0}, *FEEDBACK, {"type": "quantization", "bits": 4}]

    header = open_update(make(filters, tmp_path).data, LAYOUT).header

    assert header.filters == (
        {"type": "gradient_clip", "parameters": {"max_norm": 1.0}},
        {"type": "error_feedback", "parameters": {}},
        {"type": "sparsification", "parameters": {"top_k": 0.5}},
        {"type": "quantization", "parameters": {"bits": 4}},
    )


def test_a_vector_is_given_away_and_arrays_are_not(tmp_path: Path) -> None:
    vector = DeltaVector.of(DELTA)

    made = make(FEEDBACK, tmp_path, delta=vector)

    assert made.left_out is vector
    assert vector.values.tolist() == [0, 0, 0.5, 0.25, 0, 0.125, 0, 0]


@pytest.mark.parametrize("as_vector", [True, False])
def test_what_is_not_finite_is_never_coded(tmp_path: Path, *, as_vector: bool) -> None:
    delta = {**DELTA, "b": np.array([0, np.nan, 0, 0], np.float32)}

    with pytest.raises(NonFiniteError, match="'b'"):
        make(FEEDBACK, tmp_path, delta=DeltaVector.of(delta) if as_vector else delta)


def test_the_difference_as_a_vector_is_the_difference() -> None:
    generator = np.random.default_rng(0)
    base = {
        "w": generator.standard_normal((5, 3), dtype=np.float32),
        "v": generator.standard_normal(4),
        "half": generator.standard_normal(4).astype(np.float16),
        "steps": np.array(3),
    }
    updated = {name: array + array for name, array in base.items()}

    vector = delta_vector(base, updated)

    expected = compute_state_dict_delta(base, updated)
    assert vector.layout.names == ("half", "v", "w")
    for name, view in vector.items():
        np.testing.assert_array_equal(view, expected[name])
