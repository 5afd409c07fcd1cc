"""Which filters at the end of a round's list make a coded update, and where error feedback may stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeml_client.errors import FilterConfigError
from edgeml_client.filters import LowRankFilter, apply_filters, resolve_filters
from edgeml_client.filters.coded_ending import split_coded_ending
from edgeml_client.updates import DeltaVector, open_update
from tests.envelopes import envelope

CLIP = {"type": "gradient_clip", "max_norm": 1.0}
FEEDBACK = {"type": "error_feedback"}
TOP = {"type": "sparsification", "top_k": 0.1}
RANDOM = {"type": "sparsification", "random_k": 0.1, "seed": 7}
EXCLUDE = {"type": "exclude", "names": ["head"]}
NOISE = {"type": "gaussian_noise", "sigma": 0.1}
SIGN = {"type": "stochastic_sign"}
HEADER = envelope()
RANK_2 = {"type": "low_rank", "rank": 2}


def quantize(bits: int) -> dict[str, Any]:
    return {"type": "quantization", "bits": bits}


@pytest.mark.parametrize(
    ("filters", "num_before", "coded"),
    [
        ([CLIP, FEEDBACK, TOP, quantize(4)], 1, ("int4", 0.1, True)),
        ([CLIP, TOP, quantize(8)], 1, ("int8", 0.1, False)),
        ([FEEDBACK, quantize(16)], 0, ("int16", None, True)),
        ([TOP], 0, ("float32", 0.1, False)),
        ([FEEDBACK, RANDOM, quantize(4)], 0, ("int4", None, True)),
        ([CLIP], 1, None),
        ([], 0, None),
        *(([TOP, quantize(bits)], 0, ("int4", 0.1, False)) for bits in (1, 2, 3, 4)),
        *(([TOP, quantize(bits)], 0, ("int8", 0.1, False)) for bits in (5, 6, 7, 8)),
    ],
)
def test_the_last_filters_become_the_coding(
    filters: list[dict[str, Any]], num_before: int, coded: tuple[str, float | None, bool] | None
) -> None:
    before, ending = split_coded_ending(resolve_filters(filters))

    assert len(before) == num_before
    assert [s.type for s in (*before, *(ending.steps if ending else ()))] == [f["type"] for f in filters]
    top_k = ending.sparsification.top_k if ending and ending.sparsification else None
    assert (ending and (ending.coding.values, top_k, ending.has_error_feedback)) == coded


@pytest.mark.parametrize(
    ("filters", "num_before", "coded"),
    [
        ([CLIP, RANK_2], 1, ("float32", 2, False)),
        ([CLIP, FEEDBACK, RANK_2, quantize(8)], 1, ("int8", 2, True)),
        ([FEEDBACK, RANK_2], 0, ("float32", 2, True)),
        ([RANK_2, quantize(4)], 0, ("int4", 2, False)),
        ([RANK_2, FEEDBACK, TOP, quantize(4)], 1, ("int4", None, True)),
        ([{**RANK_2, "rank": 65}, quantize(8)], 1, ("int8", None, False)),
    ],
)
def test_a_low_rank_at_the_end_travels_as_factors(
    filters: list[dict[str, Any]], num_before: int, coded: tuple[str, int | None, bool]
) -> None:
    """Before top-k it changes the numbers alone, and so does a rank above 64, the largest that is coded."""
    before, ending = split_coded_ending(resolve_filters(filters))

    assert ending is not None
    assert [s.type for s in (*before, *ending.steps)] == [f["type"] for f in filters]
    assert len(before) == num_before
    assert (ending.coding.values, ending.coding.rank, ending.has_error_feedback) == coded


def test_a_high_or_changed_low_rank_is_no_coding() -> None:
    class Half(LowRankFilter):
        """A low rank with an operation of its own."""

        def apply_(self, vector: Any, *, generator: Any) -> None:
            """Halve all numbers."""
            vector.values *= 0.5

    for own in (Half(2), LowRankFilter(65)):
        assert split_coded_ending(resolve_filters([own])) == (resolve_filters([own]), None)


@pytest.mark.parametrize(
    ("filters", "values"),
    [
        ([TOP, CLIP], "float32"),
        ([EXCLUDE, CLIP], "float32"),
        ([quantize(8), CLIP], "float32"),
        ([CLIP, SIGN], "int4"),
        ([TOP, SIGN], "int4"),
        ([TOP, NOISE], None),
        ([SIGN, CLIP], None),
    ],
)
def test_zeros_and_signs_that_filters_leave_are_coded_without_a_loss(
    filters: list[dict[str, Any]], values: str | None
) -> None:
    before, ending = split_coded_ending(resolve_filters(filters))

    assert [step.type for step in before] == [entry["type"] for entry in filters]
    assert (ending and ending.coding.values) == values
    assert ending is None or ending.steps == ()


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ([FEEDBACK], "directly before"),
        ([FEEDBACK, CLIP, TOP], "directly before"),
        ([TOP, FEEDBACK], "directly before"),
        ([FEEDBACK, FEEDBACK, TOP], "directly before"),
        ([FEEDBACK, SIGN], "directly before"),
        ([FEEDBACK, {**RANK_2, "rank": 65}], "of rank 64 at most"),
        ([FEEDBACK, RANK_2, quantize(3)], "with nearest rounding, write 4 bits or more"),
        ([FEEDBACK, RANK_2, {**quantize(5), "rounding": "stochastic"}], "rounding, write 6 bits or more"),
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


def _signed(names_to_sizes: dict[str, int], *, dropped: float = 0.0) -> tuple[dict[str, Any], bytes]:
    """Return random signs, and the file of them; a share of the numbers is dropped before."""
    rng = np.random.default_rng(0)
    delta = {name: rng.standard_normal(size, np.float32) for name, size in names_to_sizes.items()}
    for array in delta.values():
        array[rng.random(array.size) < dropped] = 0
    signed = dict(apply_filters(delta, [SIGN], generator=rng))
    _, ending = split_coded_ending(resolve_filters([SIGN]))
    assert ending is not None
    return signed, ending.encode(HEADER, DeltaVector.of(signed))


def test_a_sign_takes_one_bit() -> None:
    """A million signs are 125,000 bytes, and 2 % above that with the tables of the compression."""
    signed, file = _signed({"a": 900_000, "b": 100_000})

    assert len(file) < 1.025 * 125_000
    for name, array in open_update(file, DeltaVector.of(signed).layout).arrays():
        np.testing.assert_allclose(array, signed[name], rtol=2e-7)


def test_zeros_among_signs_stay_zero_and_cost_no_more_than_their_positions() -> None:
    """One number in ten is zero: H(0.1) = 0.469 bits a position and 0.9 bits of signs, 171,000 bytes."""
    signed, file = _signed({"a": 1_000_000}, dropped=0.1)

    assert len(file) < 1.12 * 171_000
    decoded = dict(open_update(file, DeltaVector.of(signed).layout).arrays())["a"]
    assert np.array_equal(np.sign(decoded), np.sign(signed["a"]))


def test_variances_beside_signs_travel_in_eight_bits() -> None:
    """They are left alone by stochastic_sign; a grid of 127 levels misses a number by half a step."""
    signed, file = _signed({"bn.running_var": 100, "w": 1000})

    decoded = dict(open_update(file, DeltaVector.of(signed).layout).arrays())

    variances = signed["bn.running_var"]
    half_a_step = np.abs(variances).max() / 127 / 2
    assert np.abs(decoded["bn.running_var"] - variances).max() <= half_a_step * 1.001
    np.testing.assert_allclose(decoded["w"], signed["w"], rtol=2e-7)
