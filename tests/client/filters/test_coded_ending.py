"""Which filters at the end of a round's list make a coded update, and where error feedback may stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import apply_filters, resolve_filters
from edgeml_client.filters.coded_ending import split_coded_ending

CLIP = {"type": "gradient_clip", "max_norm": 1.0}
FEEDBACK = {"type": "error_feedback"}
TOP = {"type": "sparsification", "top_k": 0.1}


def quantize(bits: int) -> dict[str, Any]:
    return {"type": "quantization", "bits": bits}


@pytest.mark.parametrize(
    ("filters", "num_before", "coded"),
    [
        ([CLIP, FEEDBACK, TOP, quantize(4)], 1, ("int4", 0.1, True)),
        ([CLIP, TOP, quantize(8)], 1, ("int8", 0.1, False)),
        ([FEEDBACK, quantize(16)], 0, ("int16", 1.0, True)),
        ([TOP], 0, ("float32", 0.1, False)),
        ([TOP, CLIP, quantize(8)], 2, ("int8", 1.0, False)),
        ([CLIP], 1, None),
        ([], 0, None),
        ([TOP, quantize(2)], 2, None),
        ([TOP, CLIP], 2, None),
    ],
)
def test_the_last_filters_become_the_coding(
    filters: list[dict[str, Any]], num_before: int, coded: tuple[str, float, bool] | None
) -> None:
    before, ending = split_coded_ending(resolve_filters(filters))

    assert len(before) == num_before
    found = ending and (ending.coding.values, ending.fraction, ending.has_error_feedback)
    assert found == coded
    assert ending is None or [s.type for s in (*before, *ending.steps)] == [f["type"] for f in filters]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([FEEDBACK], "directly before"),
        ([FEEDBACK, CLIP, TOP], "directly before"),
        ([TOP, FEEDBACK], "directly before"),
        ([FEEDBACK, FEEDBACK, TOP], "directly before"),
        ([FEEDBACK, TOP, quantize(3)], "4, 8 or 16 bits"),
    ],
)
def test_error_feedback_elsewhere_is_refused(filters: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(FilterConfigError, match=message):
        split_coded_ending(resolve_filters(filters))


def test_error_feedback_needs_a_round() -> None:
    with pytest.raises(FilterConfigError, match="keeps a residual between rounds"):
        apply_filters({"w": np.ones(3)}, [FEEDBACK, TOP])


def test_error_feedback_takes_no_parameters() -> None:
    with pytest.raises(FilterConfigError, match="decay"):
        resolve_filters([{**FEEDBACK, "decay": 0.9}])
