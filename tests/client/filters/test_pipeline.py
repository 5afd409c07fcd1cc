"""A pipeline runs filters in order, tells what each did, and touches nothing of the caller's."""

import logging
from typing import Any

import numpy as np
import pytest
import torch

from edgeml_client import DataKind, DeltaFilter, FilterRegistry, FilterResult, apply_filters, federated
from edgeml_client.errors import ConfigurationError, FilterConfigError, ModelMismatchError, NonFiniteError
from edgeml_client.filters import (
    AuditEntry,
    FilterEffects,
    GaussianNoiseFilter,
    GradientClipFilter,
    NormValidationFilter,
    QuantizationFilter,
    Sensitivity,
    SparsificationFilter,
    resolve_filters,
)

ALL_FIVE: list[dict[str, Any]] = [
    {"type": "norm_validation", "max_norm": 10.0},
    {"type": "gradient_clip", "max_norm": 1.0},
    {"type": "sparsification", "top_k": 0.5},
    {"type": "gaussian_noise", "sigma": 0.01},
    {"type": "quantization", "bits": 8},
]


EVERY_FILTER: list[dict[str, Any]] = [
    *ALL_FIVE,
    {"type": "gradient_clip", "max_norm": 1.0},
    {"type": "gaussian_noise", "noise_multiplier": 0.1},
    {"type": "exclude", "names": ["a"]},
    {"type": "only", "names": ["[b-f]"]},
    {"type": "sparsification", "random_k": 0.5, "seed": 0},
    {"type": "low_rank", "rank": 1},
    {"type": "stochastic_sign"},
    {"type": "quantization", "bits": 2, "rounding": "stochastic"},
]


class Doubled(DeltaFilter):
    """Doubles an update."""

    def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
        """Return new arrays."""
        return {name: array * 2 for name, array in delta.items()}


class Zeroed(DeltaFilter):
    """Erases an update."""

    def process(self, delta: dict[str, Any], config: Any = None) -> None:
        """Work in place."""
        for array in delta.values():
            array[...] = 0


class Spoiled(DeltaFilter):
    """Misbehaves as told."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def process(self, delta: dict[str, Any], config: Any = None) -> Any:
        """Return whatever the test wants."""
        return self.result


def test_numpy_and_torch_give_the_same_numbers_each_in_its_own_kind() -> None:
    rng = np.random.default_rng(0)
    delta = {"w": rng.standard_normal((4, 5)), "b": rng.standard_normal(()).reshape(())}
    as_torch = {name: torch.from_numpy(array) for name, array in delta.items()}

    from_numpy = apply_filters(delta, ALL_FIVE, generator=np.random.default_rng(3))
    from_torch = apply_filters(as_torch, ALL_FIVE, generator=np.random.default_rng(3))

    for name in delta:
        assert isinstance(from_numpy[name], np.ndarray)
        assert isinstance(from_torch[name], torch.Tensor)
        assert from_torch[name].dtype == torch.float32
        assert np.array_equal(from_numpy[name], from_torch[name].numpy())


def test_the_callers_arrays_are_never_changed() -> None:
    numbers, tensor = np.array([3.0, 4.0], np.float32), torch.tensor([3.0, 4.0])

    apply_filters({"a": numbers, "b": tensor}, [*ALL_FIVE, Zeroed()])

    assert numbers.tolist() == tensor.tolist() == [3, 4]


def test_without_filters_the_result_is_a_copy() -> None:
    numbers = np.array([3.0], np.float32)

    result = apply_filters({"a": numbers}, [])
    result["a"][0] = 9

    assert numbers.tolist() == [3]
    assert result.audit_trail == ()


def test_the_audit_trail_tells_what_each_filter_did() -> None:
    """(3, 4, 0, 0) has norm 5; clipped to 2.5 it is halved; keeping 1 of 4 leaves 0.5 * 4."""
    delta = {"w": np.array([3.0, 4.0, 0.0, 0.0])}
    filters = [{"type": "gradient_clip", "max_norm": 2.5}, {"type": "sparsification", "top_k_percent": 25}]

    clipped, sparsified = apply_filters(delta, filters).audit_trail

    assert clipped["type"] == "gradient_clip"
    assert clipped.parameters == {"max_norm": 2.5}
    assert (clipped.norm_before, clipped.kept_fraction) == (5.0, 0.5)
    assert clipped.norm_after == pytest.approx(2.5, rel=1e-6)
    assert sparsified.norm_after == pytest.approx(2.0, rel=1e-6)
    assert sparsified.kept_fraction == 0.25


def test_what_was_measured_on_the_device_is_not_uploaded() -> None:
    (step,) = resolve_filters([{"type": "gradient_clip", "max_norm": 1}])

    assert step.for_upload() == {"type": "gradient_clip", "parameters": {"max_norm": 1.0}}


def test_a_result_is_the_delta_and_also_names_its_parts() -> None:
    result = apply_filters({"layer.weight": np.ones(2)}, [{"type": "quantization", "bits": 8}])

    assert isinstance(result, FilterResult)
    assert dict(result).keys() == {"layer.weight"}
    assert result["layer.weight"] is result.delta["layer.weight"] is result["delta"]["layer.weight"]
    assert result["audit_trail"] is result.audit_trail
    assert "layer.weight" in result
    assert "delta" not in result
    with pytest.raises(KeyError):
        result["absent"]


def test_an_array_may_be_called_delta() -> None:
    assert apply_filters({"delta": np.ones(1)}, [])["delta"].tolist() == [1]


def test_the_same_function_is_known_under_both_of_its_addresses() -> None:
    assert federated.apply_filters is apply_filters


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("filters", [[], *([entry] for entry in ALL_FIVE)])
def test_nan_and_inf_stop_every_filter(filters: list[dict[str, Any]], bad: float) -> None:
    with pytest.raises(NonFiniteError, match="'broken'"):
        apply_filters({"fine": np.ones(2), "broken": np.array([1.0, bad])}, filters)


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
@pytest.mark.parametrize("position", range(len(EVERY_FILTER) + 1))
def test_one_number_that_is_not_finite_stops_the_pipeline_wherever_it_arises(
    position: int, bad: float
) -> None:
    """The filter of the user's own spoils one number of ``b``; no filter behind it runs any more."""
    seen: list[str] = []

    class Spoiling(DeltaFilter):
        effects = FilterEffects(sensitivity=Sensitivity.KEEPS)

        def process(self, delta: dict[str, Any], config: Any = None) -> None:
            delta["b"][1, 1] = bad

    class Never(Spoiling):
        def process(self, delta: dict[str, Any], config: Any = None) -> None:
            seen.append("ran")

    filters = [*EVERY_FILTER[:position], Spoiling(), Never(), *EVERY_FILTER[position:]]
    delta = {"a": np.ones(9), "b": np.ones((4, 3)), "c": np.ones(2)}

    with pytest.raises(NonFiniteError, match="'b'"):
        apply_filters(delta, filters, strict=False)

    assert seen == []


@pytest.mark.parametrize("entry", EVERY_FILTER)
def test_every_filter_keeps_names_shapes_kinds_and_finiteness(entry: dict[str, Any]) -> None:
    """Scalars, empty arrays, other dtypes, views that are not contiguous and read-only arrays are fine."""
    read_only = np.ones(2, np.float32)
    read_only.flags.writeable = False
    delta = {
        "a": np.float32(2.0),
        "b": np.zeros((0, 3), np.float32),
        "c": np.arange(12, dtype=np.float64).reshape(3, 4).T[::2],
        "d": torch.ones(3, 2, dtype=torch.bfloat16),
        "e": read_only,
        "f": torch.ones(1, dtype=torch.float16, requires_grad=True),
        "steps": torch.tensor(3),
    }

    result = apply_filters(delta, [{"type": "gradient_clip", "max_norm": 9.0}, entry])

    for name, array in delta.items():
        assert isinstance(result[name], torch.Tensor) == isinstance(array, torch.Tensor)
        assert tuple(result[name].shape) == tuple(array.shape)
        assert np.isfinite(np.asarray(result[name])).all()
    assert result["steps"] is delta["steps"]
    assert read_only.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"type": "gradient_clipp", "max_norm": 1.0},
            "known types: error_feedback, exclude, gaussian_noise",
        ),
        ({"max_norm": 1.0}, "a mapping with a 'type'"),
        ({"type": 3}, "a mapping with a 'type'"),
        ("gradient_clip", "a mapping with a 'type'"),
        ({"type": "gradient_clip"}, "needs 'max_norm'; it takes: max_norm"),
        ({"type": "gradient_clip", "maxnorm": 1.0}, "needs 'max_norm'"),
        ({"type": "gradient_clip", "max_norm": 1.0, "norm": 2}, "does not know 'norm'; it takes: max_norm"),
        ({"type": "gradient_clip", "max_norm": 0.0}, "max_norm = 0.0 cannot work"),
        ({"type": "gradient_clip", "max_norm": 1e-320}, "max_norm = 1e-320 cannot work: .* float32"),
        ({"type": "norm_validation", "max_norm": 1e39}, r"max_norm = 1e\+39 cannot work: .* 3.402823e\+38"),
        ({"type": "gaussian_noise", "sigma": 1e39}, r"sigma = 1e\+39 cannot work"),
        ({"type": "gaussian_noise", "noise_multiplier": 1e308}, r"noise_multiplier = 1e\+308 cannot work"),
        ({"type": "stochastic_sign", "bound": 1e-50}, "bound = 1e-50 cannot work: .* 1.175494e-38"),
        ({"type": "stochastic_sign", "bound": 10**400}, "bound = <a whole number of 1329 bits> cannot work"),
        ({"type": "gradient_clip", "max_norm": float("nan")}, "max_norm = nan cannot work"),
        ({"type": "gradient_clip", "max_norm": "1"}, "max_norm = '1' cannot work"),
        ({"type": "gradient_clip", "max_norm": True}, "max_norm = True cannot work"),
        ({"type": "norm_validation", "max_norm": -1}, "max_norm = -1 cannot work"),
        ({"type": "gaussian_noise", "sigma": -0.1}, "sigma = -0.1 cannot work"),
        ({"type": "gaussian_noise", "sigma": 0.1, "stddev": 0.2}, "either 'sigma' or 'stddev'"),
        ({"type": "sparsification", "top_k": 10}, "write 'top_k_percent'"),
        ({"type": "sparsification", "top_k": 0}, "top_k = 0 cannot work"),
        ({"type": "sparsification", "top_k_percent": 200}, "top_k = 2.0"),
        ({"type": "sparsification", "top_k": 0.1, "top_k_percent": 20}, "contradict each other"),
        ({"type": "sparsification"}, "needs 'top_k', or 'random_k' and 'seed'"),
        (
            {"type": "sparsification", "top_k": 0.1, "random_k": 0.1, "seed": 1},
            "needs 'top_k', or 'random_k'",
        ),
        ({"type": "sparsification", "random_k": 0.1}, "needs 'seed' with 'random_k'"),
        ({"type": "sparsification", "top_k": 0.1, "seed": 1}, "needs 'seed' with 'random_k' and only there"),
        ({"type": "sparsification", "random_k": 0.1, "seed": -1}, "seed = -1 cannot work"),
        ({"type": "sparsification", "random_k": 0.1, "seed": 2**53}, "seed = 9007199254740992 cannot work"),
        ({"type": "sparsification", "random_k": 10, "seed": 1}, "random_k = 10 cannot work"),
        ({"type": "quantization", "bits": 8, "rounding": "up"}, "rounding = 'up' cannot work"),
        ({"type": "gaussian_noise"}, "needs 'sigma', or 'noise_multiplier' behind a clip"),
        ({"type": "exclude", "names": []}, "names = .* cannot work"),
        ({"type": "exclude", "names": "head"}, "names = 'head' cannot work"),
        ({"type": "only", "names": [""]}, "names = '' cannot work"),
        ({"type": "only"}, "needs 'names'"),
        ({"type": "low_rank", "rank": 0}, "rank = 0 cannot work"),
        ({"type": "low_rank", "rank": 1.5}, "rank = 1.5 cannot work"),
        ({"type": "stochastic_sign", "bound": 0}, "bound = 0 cannot work"),
        ({"type": "quantization", "bits": 12}, "bits = 12 cannot work"),
        ({"type": "quantization", "bits": "8"}, "bits = '8' cannot work"),
        ({"type": "quantization", "bits": 8.0}, "bits = 8.0 cannot work"),
        ({"type": "quantization", "bits": True}, "bits = True cannot work"),
    ],
)
def test_a_mistake_in_a_config_is_one_sentence_that_names_the_alternatives(entry: Any, message: str) -> None:
    with pytest.raises(FilterConfigError, match=message) as caught:
        resolve_filters([entry])

    assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "gaussian_noise", "sigma": 0.1, "stddev": 0.1},
        {"type": "sparsification", "top_k": 0.07, "top_k_percent": 0.07 * 100},
        {"type": "sparsification", "random_k": 0.07, "seed": 3, "top_k_percent": 0.07 * 100},
    ],
)
def test_a_config_may_be_spelled_for_two_kinds_of_sdk_at_once(entry: dict[str, Any]) -> None:
    (step,) = resolve_filters([entry])

    ours = ("sigma", "top_k", "random_k", "seed")
    assert step.parameters == {name: entry[name] for name in ours if name in entry}


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "x" * 10**6},
        {"type": "gradient_clip", "max_norm": 1.0, "x" * 10**6: 1},
        {"type": "gradient_clip", "max_norm": "x" * 10**6},
        {"type": "low_rank", "rank": -(10**5000)},
        {"type": "quantization", "bits": ["x" * 10**6] * 100},
        {"kind": "x" * 10**6},
        "x" * 10**6,
    ],
)
def test_a_message_stays_short_whatever_a_config_says(entry: Any) -> None:
    with pytest.raises(FilterConfigError) as caught:
        resolve_filters([entry])

    assert len(str(caught.value)) < 1000


def test_a_long_pattern_is_not_repeated() -> None:
    with pytest.raises(FilterConfigError, match="matches no floating array") as caught:
        apply_filters({"w": np.ones(1)}, [{"type": "exclude", "names": ["x" * 40_000]}])

    assert len(str(caught.value)) < 300


def test_filters_are_checked_before_any_of_them_runs() -> None:
    delta = {"w": np.array([np.nan])}

    with pytest.raises(FilterConfigError):
        apply_filters(delta, [{"type": "norm_validation", "max_norm": 1.0}, {"type": "unheard_of"}])


def test_unregistered_types_are_skipped_only_when_asked_to(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = apply_filters({"w": np.ones(1)}, [{"type": "unheard_of"}], strict=False)

    assert result.audit_trail == ()
    assert "unheard_of" in caplog.text


def test_a_filter_of_ones_own_gets_float32_views_of_the_callers_kind() -> None:
    seen: dict[str, Any] = {}

    class Seeing(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> None:
            seen.update(delta)

    apply_filters({"a": torch.ones(2, dtype=torch.float64), "b": np.ones(2), "n": np.array(3)}, [Seeing()])

    assert set(seen) == {"a", "b"}
    assert seen["a"].dtype == torch.float32
    assert isinstance(seen["b"], np.ndarray)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_the_views_of_a_filter_are_parts_of_one_vector_that_nobody_copies(kind: str) -> None:
    """Two float32 arrays of 3 and 4 numbers: the second begins 12 bytes after the first.

    What a later filter sees lies where the earlier one saw it.
    """
    addresses: list[list[int]] = []

    class Looking(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> None:
            arrays = [np.asarray(delta[name]) for name in ("a", "b")]
            addresses.append([array.__array_interface__["data"][0] for array in arrays])
            assert all(array.flags.writeable for array in arrays)

    delta: dict[str, Any] = {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32)}
    if kind == "torch":
        delta = {name: torch.from_numpy(array.copy()) for name, array in delta.items()}
    result = apply_filters(delta, [Looking(), {"type": "gradient_clip", "max_norm": 1.0}, Looking()])

    assert addresses[0][1] - addresses[0][0] == 3 * 4
    assert addresses[0] == addresses[1]
    assert [np.asarray(result[name]).__array_interface__["data"][0] for name in "ab"] == addresses[0]
    assert np.asarray(delta["a"]).__array_interface__["data"][0] != addresses[0][0]


def test_a_filter_of_ones_own_may_return_new_arrays_or_work_in_place() -> None:
    delta = {"w": torch.ones(2)}

    assert apply_filters(delta, [Doubled()])["w"].tolist() == [2, 2]
    assert apply_filters(delta, [Zeroed()])["w"].tolist() == [0, 0]


def test_a_filter_may_put_new_arrays_into_what_it_was_passed() -> None:
    class Replaced(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> None:
            delta["a"] = delta["a"] * 2
            delta["b"][...] = 5

    result = apply_filters({"a": np.ones(2), "b": np.ones(1)}, [Replaced()])

    assert result["a"].tolist() == [2, 2]
    assert result["b"].tolist() == [5]
    assert result.audit_trail[0].norm_after == pytest.approx((4 + 4 + 25) ** 0.5)


def test_what_it_was_passed_keeps_names_and_shapes_too() -> None:
    class Removed(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> None:
            del delta["a"]

    with pytest.raises(ModelMismatchError, match="'Removed' must return the names and shapes it was given"):
        apply_filters({"a": np.ones(2), "b": np.ones(1)}, [Removed()])


def test_a_filter_may_exchange_its_views() -> None:
    class Exchanged(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
            return {"a": delta["b"], "b": delta["a"]}

    result = apply_filters({"a": np.zeros(2), "b": np.ones(2)}, [Exchanged()])

    assert result["a"].tolist() == [1, 1]
    assert result["b"].tolist() == [0, 0]


@pytest.mark.parametrize("result", [{}, {"w": np.ones(3)}, {"w": np.ones(2), "more": np.ones(1)}])
def test_a_filter_must_keep_names_and_shapes(result: Any) -> None:
    with pytest.raises(ModelMismatchError, match="'Spoiled' must return the names and shapes it was given"):
        apply_filters({"w": np.ones(2)}, [Spoiled(result)])


def test_a_registered_filter_gets_its_config_and_stands_in_the_audit_trail() -> None:
    class Scaled(DeltaFilter):
        def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
            return {name: array * config["by"] for name, array in delta.items()}

    FilterRegistry.register("scaled", Scaled)
    try:
        result = apply_filters({"w": np.ones(2)}, [{"type": "scaled", "by": 3.0, "note": None}, Scaled()][:1])
    finally:
        assert FilterRegistry.unregister("scaled")

    assert result["w"].tolist() == [3, 3]
    assert result.audit_trail[0].type == "scaled"
    assert result.audit_trail[0].parameters == {"by": 3.0}
    assert not FilterRegistry.unregister("scaled")


def test_only_filters_can_be_registered() -> None:
    with pytest.raises(FilterConfigError, match="subclass of DeltaFilter"):
        FilterRegistry.register("dictionary", dict)  # type: ignore[arg-type]


def test_the_built_in_filters_are_registered() -> None:
    assert FilterRegistry.list_filters() == [
        "error_feedback",
        "exclude",
        "gaussian_noise",
        "gradient_clip",
        "low_rank",
        "norm_validation",
        "only",
        "quantization",
        "sparsification",
        "stochastic_sign",
    ]
    assert FilterRegistry.get("gradient_clip") is GradientClipFilter
    assert FilterRegistry.get("unheard_of") is None


def test_a_filter_made_for_other_data_is_skipped() -> None:
    class ForMetrics(Doubled):
        supported_data_kinds = (DataKind.METRICS,)

    class ForAll(Doubled):
        supported_data_kinds = (DataKind.ANY,)

    assert apply_filters({"w": np.ones(1)}, [ForMetrics()])["w"].tolist() == [1]
    assert apply_filters({"w": np.ones(1)}, [ForMetrics()], DataKind.METRICS)["w"].tolist() == [2]
    assert apply_filters({"w": np.ones(1)}, [ForAll()])["w"].tolist() == [2]


class ClipForMetrics(GradientClipFilter):
    """Bounds no update."""

    supported_data_kinds = (DataKind.METRICS,)


def test_a_filter_made_for_other_data_bounds_nothing_and_stands_in_nobodys_way() -> None:
    noise = {"type": "gaussian_noise", "sigma": 0.1}

    with pytest.raises(FilterConfigError, match="none stands before it"):
        apply_filters(
            {"w": np.ones(3)}, [ClipForMetrics(1.0), {"type": "gaussian_noise", "noise_multiplier": 1.0}]
        )
    assert [step.type for step in resolve_filters([noise, ClipForMetrics(1.0)])] == ["gaussian_noise"]
    with pytest.raises(FilterConfigError, match="may not follow"):
        resolve_filters([noise, GradientClipFilter(1.0)])


def test_built_in_filters_also_work_as_objects() -> None:
    delta = {"w": np.array([3.0, 4.0])}
    objects = [
        GradientClipFilter(max_norm=1.0),
        NormValidationFilter(max_norm=1.0),
        SparsificationFilter(top_k=0.5),
        GaussianNoiseFilter(sigma=0.0),
        QuantizationFilter(bits=8),
    ]

    result = apply_filters(delta, objects)

    assert result["w"].tolist() == pytest.approx([0, 0.8])
    assert [entry.type for entry in result.audit_trail] == [
        "gradient_clip",
        "norm_validation",
        "sparsification",
        "gaussian_noise",
        "quantization",
    ]
    assert repr(objects[0]) == "GradientClipFilter(max_norm=1.0)"


def test_a_built_in_filter_can_be_called_by_itself_with_or_without_a_config() -> None:
    delta = {"w": torch.tensor([3.0, 4.0])}
    clip = GradientClipFilter(max_norm=1.0)

    assert clip.process(delta)["w"].tolist() == pytest.approx([0.6, 0.8])
    assert clip.process(delta, {"type": "gradient_clip", "max_norm": 2.5})["w"].tolist() == pytest.approx(
        [1.5, 2]
    )
    assert delta["w"].tolist() == [3, 4]
    with pytest.raises(NonFiniteError):
        clip.process({"w": np.array([np.nan])})


def test_an_audit_entry_is_a_record() -> None:
    entry = AuditEntry(type="x", parameters={}, norm_before=1, norm_after=1, kept_fraction=1, num_bytes=4)

    assert dict(entry)["kept_fraction"] == 1


def test_an_empty_delta_is_fine() -> None:
    result = apply_filters(
        {}, [{"type": "sparsification", "top_k": 0.5}, {"type": "quantization", "bits": 4}]
    )

    assert dict(result) == {}
    assert result.audit_trail[0].kept_fraction == 0
