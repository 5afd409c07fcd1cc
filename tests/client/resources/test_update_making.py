"""What leaves a device and what stays, whether the control plane reads coded updates or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeml_client.errors import NonFiniteError, NormExceededError
from edgeml_client.filters import (
    DataKind,
    DeltaFilter,
    FilterEffects,
    GaussianNoiseFilter,
    GradientClipFilter,
    QuantizationFilter,
    SparsificationFilter,
    StochasticSignFilter,
    resolve_filters,
    run_filters_,
)
from edgeml_client.resources.update_making import MadeUpdate, make_update
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import DeltaVector, Layout, StreamedDelta, UpdateFile, open_update
from edgeml_client.updates.coding import CodedUpdateFile
from edgeml_client.updates.coding.residual import ResidualStore
from edgeml_client.updates.coding.residual_slot import ResidualMark
from edgeml_client.updates.outbox import Outbox
from tests.client.coding.leftovers import numbers_of, stage
from tests.envelopes import envelope

DELTA = {
    "a": np.array([[4.0, -1.0], [0.5, 0.25]], np.float32),
    "b": np.array([-3.0, 0.125, 0.0, 2.0], np.float32),
}
LAYOUT = DeltaVector.of(DELTA).layout
TOP_HALF: list[dict[str, Any]] = [{"type": "sparsification", "top_k": 0.5}]
FEEDBACK: list[dict[str, Any]] = [{"type": "error_feedback"}, *TOP_HALF]


def header_for(trail: tuple[dict[str, Any], ...], round_id: str = "r-1") -> UpdateHeader:
    return envelope(round_id=round_id, filters=trail)


def make(
    filters: Sequence[dict[str, Any] | DeltaFilter],
    folder: Path,
    *,
    allow_coded: bool = True,
    delta: Any = None,
    seed: int = 0,
) -> MadeUpdate:
    return make_update(
        DELTA if delta is None else delta,
        resolve_filters(filters),
        header_for=header_for,
        layout=LAYOUT,
        residuals=ResidualStore(folder),
        allow_coded=allow_coded,
        generator=np.random.default_rng(seed),
    )


def opened(made: MadeUpdate, layout: Layout = LAYOUT) -> UpdateFile | CodedUpdateFile:
    return open_update(bytes(made.data), layout)


def numbers_in(made: MadeUpdate) -> list[float]:
    return [x for _, array in opened(made).arrays() for x in array.reshape(-1).tolist()]


def test_sparsified_updates_are_coded_where_that_is_read(tmp_path: Path) -> None:
    coded, dense = make(TOP_HALF, tmp_path), make(TOP_HALF, tmp_path, allow_coded=False)

    assert isinstance(opened(coded), CodedUpdateFile)
    assert isinstance(opened(dense), UpdateFile)
    assert numbers_in(coded) == numbers_in(dense) == [4.0, -1.0, 0, 0, -3.0, 0, 0, 2.0]
    assert coded.left_out is dense.left_out is None


def test_filters_that_cannot_be_coded_give_a_dense_update(tmp_path: Path) -> None:
    made = make([{"type": "gradient_clip", "max_norm": 100.0}], tmp_path)

    assert isinstance(opened(made), UpdateFile)
    assert numbers_in(made) == [4.0, -1.0, 0.5, 0.25, -3.0, 0.125, 0.0, 2.0]


@pytest.mark.parametrize("allow_coded", [True, False])
def test_error_feedback_adds_what_was_left_out_before(tmp_path: Path, *, allow_coded: bool) -> None:
    """Kept before: 0.75 on the last number of a. 0.25 + 0.75 = 1 equals |-1|, which comes first."""
    kept = DeltaVector(np.zeros(8, np.float32), LAYOUT)
    kept.values[3] = 0.75
    mark = ResidualMark(model_id="m", round_id="r-0", base_digest="sha256:0", update_digest="sha256:1")
    stage(ResidualStore(tmp_path), kept, mark).commit()

    made = make(FEEDBACK, tmp_path, allow_coded=allow_coded)

    assert isinstance(opened(made), CodedUpdateFile if allow_coded else UpdateFile)
    assert numbers_in(made) == [4.0, -1.0, 0, 0, -3.0, 0, 0, 2.0]
    assert made.left_out is not None
    assert numbers_of(made.left_out).tolist() == [0, 0, 0.5, 1.0, 0, 0.125, 0, 0]
    assert DELTA["a"][1, 1] == 0.25


def test_the_audit_trail_names_all_filters_in_order(tmp_path: Path) -> None:
    filters = [{"type": "gradient_clip", "max_norm": 1.0}, *FEEDBACK, {"type": "quantization", "bits": 4}]

    header = opened(make(filters, tmp_path)).header

    assert header.filters == (
        {"type": "gradient_clip", "parameters": {"max_norm": 1.0}},
        {"type": "error_feedback", "parameters": {}},
        {"type": "sparsification", "parameters": {"top_k": 0.5}},
        {"type": "quantization", "parameters": {"bits": 4}},
    )


def test_what_a_vector_leaves_out_is_found_in_it_after_the_update_was_made(tmp_path: Path) -> None:
    vector = DeltaVector.of(DELTA)

    made = make(FEEDBACK, tmp_path, delta=vector)

    assert made.left_out is not None
    assert numbers_of(made.left_out).tolist() == [0, 0, 0.5, 0.25, 0, 0.125, 0, 0]


@pytest.mark.parametrize("ending", [FEEDBACK, TOP_HALF, []])
@pytest.mark.parametrize(
    "before",
    [
        [],
        [{"type": "gradient_clip", "max_norm": 2.0}],
        [
            {"type": "gradient_clip", "max_norm": 3.0},
            {"type": "norm_validation", "max_norm": 4.0},
            {"type": "gradient_clip", "max_norm": 1.0},
        ],
    ],
)
def test_a_streamed_delta_gives_the_bits_of_a_filtered_vector(
    before: list[dict[str, Any]], ending: list[dict[str, Any]], tmp_path: Path
) -> None:
    """What the filters leave in a vector, coded without any filter before, is the reference."""
    base = {name: np.full_like(array, 0.1) for name, array in DELTA.items()}
    delta = StreamedDelta.between(base, {name: base[name] + array for name, array in DELTA.items()})
    filtered, norm = delta.vector()
    for _ in run_filters_(filtered, resolve_filters(before), norm=norm):
        pass

    streamed = make([*before, *ending], tmp_path, delta=delta)
    reference = make(ending, tmp_path, delta=filtered)

    assert numbers_in(streamed) == numbers_in(reference)
    if ending is FEEDBACK:
        assert streamed.left_out is not None
        assert reference.left_out is not None
        left = numbers_of(streamed.left_out) + numbers_in(streamed)
        assert left.tolist() == filtered.values.tolist()
        assert numbers_of(streamed.left_out).tolist() == numbers_of(reference.left_out).tolist()


def test_a_bound_is_checked_before_anything_is_coded(tmp_path: Path) -> None:
    with pytest.raises(NormExceededError):
        make([{"type": "norm_validation", "max_norm": 1.0}, *FEEDBACK], tmp_path)


def test_a_custom_filter_before_the_coding_still_runs(tmp_path: Path) -> None:
    class Halve(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
            return {name: array * 0.5 for name, array in delta.items()}

    steps = (*resolve_filters([Halve()]), *resolve_filters(FEEDBACK))

    made = make_update(
        StreamedDelta.of(DELTA),
        steps,
        header_for=header_for,
        layout=LAYOUT,
        residuals=ResidualStore(tmp_path),
        allow_coded=True,
    )

    assert numbers_in(made) == [2.0, -0.5, 0, 0, -1.5, 0, 0, 1.0]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 16])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("choice", [{"top_k": 0.5}, {"random_k": 0.5, "seed": 3}], ids=["top-k", "random-k"])
def test_with_error_feedback_what_is_sent_and_what_is_kept_are_the_delta(
    tmp_path: Path, bits: int, rounding: str, choice: dict[str, Any]
) -> None:
    """Half of the 8 numbers are sent. With b bits and largest level L each block of 64 has the grid m / L."""
    filters = [
        {"type": "error_feedback"},
        {"type": "sparsification", **choice},
        {"type": "quantization", "bits": bits, "rounding": rounding},
    ]

    made = make(filters, tmp_path)

    sent = np.array(numbers_in(made))
    assert made.left_out is not None
    np.testing.assert_allclose(sent + numbers_of(made.left_out), DeltaVector.of(DELTA).values, rtol=2e-7)
    assert np.count_nonzero(sent) <= 4
    assert np.unique(np.abs(sent[sent != 0])).size <= max(1, 2 ** (bits - 1) - 1)


def test_devices_without_error_feedback_send_what_apply_filters_shows(tmp_path: Path) -> None:
    """Zeros and signs are coded without a loss, so the dense and the coded update hold the same numbers."""
    for filters in (
        [{"type": "exclude", "names": ["a"]}],
        [*TOP_HALF, {"type": "gradient_clip", "max_norm": 1.0}],
        [*TOP_HALF, {"type": "stochastic_sign"}],
    ):
        made, dense = (make(filters, tmp_path, allow_coded=allowed, seed=1) for allowed in (True, False))

        assert isinstance(opened(made), CodedUpdateFile)
        assert numbers_in(made) == pytest.approx(numbers_in(dense), rel=2e-7)
        assert made.left_out is None


def test_rounding_at_random_differs_and_the_generator_decides_it(tmp_path: Path) -> None:
    filters = [{"type": "quantization", "bits": 2, "rounding": "stochastic"}]
    delta = {"a": np.full((2, 2), 0.5), "b": np.array([1.0, 0.5, 0.5, 0.5])}

    first, again, other = (numbers_in(make(filters, tmp_path, delta=delta, seed=n)) for n in (1, 1, 2))

    assert first == again != other
    assert set(first) <= {0.0, 1.0}


@pytest.mark.parametrize("as_vector", [True, False])
def test_what_is_not_finite_is_never_coded(tmp_path: Path, *, as_vector: bool) -> None:
    delta = {**DELTA, "b": np.array([0, np.nan, 0, 0], np.float32)}

    with pytest.raises(NonFiniteError, match="'b'"):
        make(FEEDBACK, tmp_path, delta=DeltaVector.of(delta) if as_vector else delta)


class SevensForQuantization(QuantizationFilter):
    """Quantization with an operation of its own."""

    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Write sevens."""
        vector.values.fill(7)


class SevensForSelection(SparsificationFilter):
    """Sparsification with an operation of its own."""

    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Write sevens."""
        vector.values.fill(7)


class SevensForSigns(StochasticSignFilter):
    """Signs with an operation of their own, and no signs at all."""

    effects = FilterEffects()

    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Write sevens, all but one."""
        vector.values.fill(7)
        vector.values[0] = 0.03125


class SevensForProcess(GradientClipFilter):
    """Clipping that overrides nothing but the method of any filter."""

    def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
        """Clip, then return sevens."""
        return {name: np.full_like(array, 7) for name, array in super().process(delta, config).items()}


class SevensForNoise(GaussianNoiseFilter):
    """Noise of another distribution."""

    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Write seven times the standard deviation."""
        vector.values.fill(7 * (self.sigma or 0))


class SevensForClipping(GradientClipFilter):
    """Clipping with an operation of its own."""

    def apply_(self, vector: DeltaVector, *, generator: np.random.Generator) -> None:
        """Clip, then write sevens."""
        super().apply_(vector, generator=generator)
        vector.values.fill(7)


class SevensKnowingTheNorm(GradientClipFilter):
    """Clipping with an operation of its own, which is told the norm."""

    def apply_knowing_norm_(
        self, vector: DeltaVector, *, norm: float, generator: np.random.Generator
    ) -> float:
        """Write sevens."""
        vector.values.fill(7)
        return vector.norm()


def undeclared(own: DeltaFilter) -> DeltaFilter:
    """Return a filter that no longer declares what the one it was made from does."""
    own.effects = FilterEffects()
    return own


@pytest.mark.parametrize("allow_coded", [True, False])
@pytest.mark.parametrize(
    "filters",
    [
        [undeclared(SevensForQuantization(8))],
        [undeclared(SevensForSelection(0.25))],
        [GradientClipFilter(1.0), SevensForNoise(noise_multiplier=1.0)],
        [undeclared(SevensForClipping(1.0)), {"type": "quantization", "bits": 8}],
        [undeclared(SevensKnowingTheNorm(1.0)), {"type": "quantization", "bits": 8}],
        [undeclared(SevensForProcess(1.0)), {"type": "quantization", "bits": 8}],
        [undeclared(SevensForProcess(1.0))],
    ],
    ids=lambda filters: type(filters[-1] if isinstance(filters[-1], DeltaFilter) else filters[0]).__name__,
)
def test_a_subclass_of_a_built_in_filter_runs_its_own_operation(
    filters: list[Any],
    allow_coded: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    """The scales of quantization are bfloat16, which has 8 bits."""
    sent = numbers_in(make(filters, tmp_path, allow_coded=allow_coded))

    assert sent == pytest.approx([7.0] * 8, rel=2**-8)


def test_what_a_subclass_of_the_signs_makes_is_sent_as_it_is(tmp_path: Path) -> None:
    assert numbers_in(make([SevensForSigns()], tmp_path)) == [0.03125, *[7.0] * 7]


def test_filters_for_other_kinds_of_data_take_no_part_in_a_round(tmp_path: Path) -> None:
    class ClipForMetrics(GradientClipFilter):
        supported_data_kinds = (DataKind.METRICS,)

    made = make([ClipForMetrics(1e-3), *TOP_HALF], tmp_path)

    assert numbers_in(made) == [4.0, -1.0, 0, 0, -3.0, 0, 0, 2.0]
    assert [entry["type"] for entry in opened(made).header.filters] == ["sparsification"]


@pytest.mark.parametrize("allow_coded", [True, False])
def test_error_feedback_keeps_what_a_low_rank_leaves_out(tmp_path: Path, *, allow_coded: bool) -> None:
    """Of singular values 1, 1/2, 1/4, ... rank 1 sends the first and keeps the others: together the delta."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((20, 20))).Q for _ in range(2))
    delta = {"w": ((left * 0.5 ** np.arange(20)) @ right).astype(np.float32)}
    layout = DeltaVector.of(delta).layout
    filters = resolve_filters([{"type": "error_feedback"}, {"type": "low_rank", "rank": 1}])

    made = make_update(
        delta,
        filters,
        header_for=header_for,
        layout=layout,
        residuals=ResidualStore(tmp_path),
        allow_coded=allow_coded,
    )

    sent = dict(opened(made, layout).arrays())["w"]
    assert made.left_out is not None
    kept = numbers_of(made.left_out).reshape(20, 20)
    np.testing.assert_allclose(sent + kept, delta["w"], atol=1e-6)
    assert np.linalg.svd(sent, compute_uv=False)[:2] == pytest.approx([1, 0], abs=1e-3)
    assert np.linalg.svd(kept, compute_uv=False)[0] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(("bits", "rounding"), [(4, "nearest"), (6, "stochastic")])
def test_what_is_kept_of_factors_in_the_fewest_bits_stays_bounded(
    tmp_path: Path, *, bits: int, rounding: str
) -> None:
    """Random matrices, of which a rank of 2 holds a fifth: after ten rounds nothing more adds up."""
    numbers = np.random.default_rng(0)
    shapes = {"b": (16,), "w": (16, 64)}
    layout = DeltaVector.of({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}).layout
    outbox = Outbox(tmp_path)
    factors = {"type": "low_rank", "rank": 2}, {"type": "quantization", "bits": bits, "rounding": rounding}
    lengths: list[float] = []

    for number in range(80):
        made = make_update(
            {name: numbers.normal(scale=100, size=shape) for name, shape in shapes.items()},
            resolve_filters([{"type": "error_feedback"}, *factors]),
            header_for=lambda trail, number=number: header_for(trail, f"r-{number}"),
            layout=layout,
            residuals=outbox.residuals,
            allow_coded=True,
            generator=numbers,
        )
        assert made.left_out is not None
        lengths.append(float(np.linalg.norm(numbers_of(made.left_out))))
        outbox.put(made.data, left_out=made.left_out)

    assert max(lengths[-40:]) < 1.5 * max(lengths[:10])
