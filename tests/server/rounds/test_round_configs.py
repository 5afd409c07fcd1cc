"""What a round asks of its devices: checked once, spelled for every SDK."""

from __future__ import annotations

import pytest

from edgeml_client.filters import resolve_announced, resolve_filters
from edgeml_client.schemas import RoundConfig
from edgeml_client.updates.layout import ArraySpec, Layout
from edgeml_server.errors import InvalidContentError
from edgeml_server.rounds.configs import announced_config, checked_config

LAYOUT = Layout.of([ArraySpec("bn10.weight", (2,), "F32"), ArraySpec("head.weight", (2,), "F32")])


@pytest.mark.parametrize(
    ("given", "kept", "announced"),
    [
        (
            {"type": "gaussian_noise", "stddev": 0.5},
            {"type": "gaussian_noise", "sigma": 0.5},
            {"type": "gaussian_noise", "sigma": 0.5, "stddev": 0.5},
        ),
        (
            {"type": "sparsification", "top_k_percent": 25},
            {"type": "sparsification", "top_k": 0.25},
            {"type": "sparsification", "top_k": 0.25, "top_k_percent": 25.0},
        ),
        (
            {"type": "gradient_clip", "max_norm": 1.0},
            {"type": "gradient_clip", "max_norm": 1.0},
            {"type": "gradient_clip", "max_norm": 1.0},
        ),
        (
            {"type": "sparsification", "random_k": 0.25, "seed": 3},
            {"type": "sparsification", "random_k": 0.25, "seed": 3},
            {"type": "sparsification", "random_k": 0.25, "seed": 3, "top_k_percent": 25.0},
        ),
        (
            {"type": "quantization", "bits": 3, "rounding": "stochastic"},
            {"type": "quantization", "bits": 3, "rounding": "stochastic"},
            {"type": "quantization", "bits": 3, "rounding": "stochastic"},
        ),
        (
            {"type": "exclude", "names": ["head", "*.weight"]},
            {"type": "exclude", "names": ["head", "*.weight"]},
            {"type": "exclude", "names": ["head", "*.weight"]},
        ),
        ({"type": "low_rank", "rank": 2},) * 3,
        ({"type": "stochastic_sign"},) * 3,
    ],
)
def test_a_filter_is_kept_in_our_spelling_and_announced_in_both(
    given: dict[str, object], kept: dict[str, object], announced: dict[str, object]
) -> None:
    checked = checked_config(RoundConfig.model_validate({"filters": [given]}), LAYOUT)
    told = announced_config(checked, model_id="m", version="1")

    assert [dict(entry) for entry in checked.filters] == [kept]
    assert [dict(entry) for entry in told.filters] == [announced]
    assert [step.parameters for step in resolve_filters(told.filters)] == [
        {key: value for key, value in kept.items() if key != "type"}
    ]


def test_noise_is_announced_with_the_sigma_that_the_clip_asks_for() -> None:
    """0.5 * 2 = 1, with the clip written out or as ``clip_norm``; each SDK finds the figure that it reads."""
    noise = {"type": "gaussian_noise", "noise_multiplier": 0.5}
    spelled = {**noise, "sigma": 1.0, "stddev": 1.0}

    for given in (
        {"clip_norm": 2.0, "filters": [noise]},
        {"filters": [{"type": "gradient_clip", "max_norm": 2.0}, noise]},
    ):
        checked = checked_config(RoundConfig.model_validate(given), LAYOUT)
        told = announced_config(checked, model_id="m", version="1")

        assert told.filters[-1] == spelled
        assert len(told.filters) == len(given["filters"])  # type: ignore[arg-type]
        assert resolve_announced(told)[-1].parameters == {"noise_multiplier": 0.5, "sigma": 1.0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"filters": [{"type": "gaussian_noise", "noise_multiplier": 0.5}]}, "none stands before it"),
        ({"filters": [{"type": "exclude", "names": ["haed"]}]}, "'haed' matches no floating array"),
        (
            {"filters": [{"type": "quantization", "bits": 8}, {"type": "sparsification", "top_k": 0.1}]},
            "config.filters: filter 'sparsification' may not follow 'quantization'",
        ),
        (
            {"clip_norm": 1.0, "filters": [{"type": "error_feedback"}, {"type": "stochastic_sign"}]},
            "directly before",
        ),
    ],
)
def test_filters_that_cannot_work_are_refused_with_the_reason(
    config: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidContentError, match=message):
        checked_config(RoundConfig.model_validate(config), LAYOUT)


def test_a_head_is_named_by_whole_path_segments() -> None:
    checked_config(RoundConfig(head_layers=("head",)), LAYOUT)
    checked_config(RoundConfig(head_layers=("bn10.weight",)), LAYOUT)

    with pytest.raises(InvalidContentError, match="'bn1', but no array"):
        checked_config(RoundConfig(head_layers=("bn1",)), LAYOUT)


@pytest.mark.parametrize("head_layers", [("bn10", "head"), ("bn10.weight", "head.weight")])
def test_a_head_that_leaves_nothing_to_share_is_refused(head_layers: tuple[str, ...]) -> None:
    with pytest.raises(InvalidContentError, match="head_layers takes the whole model"):
        checked_config(RoundConfig(head_layers=head_layers), LAYOUT)


@pytest.mark.parametrize("spec", [ArraySpec("steps", (), "I64"), ArraySpec("w", (0, 3), "F32")])
def test_a_model_without_numbers_to_average_gets_no_round(spec: ArraySpec) -> None:
    with pytest.raises(InvalidContentError, match="no floating-point numbers"):
        checked_config(RoundConfig(), Layout.of([spec]))


def test_what_the_server_sets_is_not_taken_from_the_operator() -> None:
    given = RoundConfig(model_id="other", version="9", capabilities=("teleport",))

    told = announced_config(checked_config(given, LAYOUT), model_id="m", version="1")

    assert (told.model_id, told.version) == ("m", "1")
    assert "teleport" not in told.capabilities


@pytest.mark.parametrize(
    "given",
    [{"x" * 10**6: 1}, {"head_layers": ["x" * 10**6]}, {"filters": [{"type": "x" * 10**6}]}],
    ids=["a key", "a layer", "a filter"],
)
def test_a_refusal_does_not_repeat_a_megabyte(given: dict[str, object]) -> None:
    with pytest.raises(InvalidContentError) as caught:
        checked_config(RoundConfig.model_validate(given), LAYOUT)

    assert len(str(caught.value)) < 1000
