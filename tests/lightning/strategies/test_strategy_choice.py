"""Strategies check their arguments, and the user's explicit ones win over the round's."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any, ClassVar

import pytest
from torch import nn

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import RoundConfig
from edgeml_lightning.strategies import (
    APFL,
    Ditto,
    FedAvg,
    FedBN,
    FederatedStrategy,
    FedPer,
    FedProx,
    FedRep,
    Scaffold,
    resolve_strategy,
)


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_strengths_are_finite_and_not_negative(value: float) -> None:
    with pytest.raises(ConfigurationError, match="lambda_ditto"):
        Ditto(lambda_ditto=value)
    with pytest.raises(ConfigurationError, match="proximal_mu"):
        FedProx(proximal_mu=value)


def test_buffers_follow_a_known_policy() -> None:
    with pytest.raises(ConfigurationError, match="average"):
        FedAvg(buffers="mean")  # type: ignore[arg-type]


def test_a_head_is_a_list_of_paths() -> None:
    """A string is a sequence of letters, and would name ten layers."""
    with pytest.raises(ConfigurationError, match=r"\['classifier'\]"):
        FedPer(head_layers="classifier")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_mixture_has_a_share_between_none_and_all(value: float) -> None:
    with pytest.raises(ConfigurationError, match="mixing_alpha must"):
        APFL(value)


def test_the_rate_of_a_mixture_is_not_negative() -> None:
    with pytest.raises(ConfigurationError, match="alpha_rate"):
        APFL(0.5, alpha_rate=-1.0)


@pytest.mark.parametrize("value", [0, 1.1, float("nan")])
def test_a_cohort_is_a_part_of_all_devices(value: float) -> None:
    with pytest.raises(ConfigurationError, match="cohort_fraction must"):
        Scaffold(value)


@pytest.mark.parametrize("head_epochs", [0, -1, 1.5, True])
def test_a_head_trains_for_whole_epochs(head_epochs: Any) -> None:
    with pytest.raises(ConfigurationError, match="head_epochs must be a whole number, at least 1"):
        FedRep(["head"], head_epochs=head_epochs)


@pytest.mark.parametrize("layer_types", [(), (3,), ("BatchNorm2d",), (dict,)])
def test_normalization_is_named_by_module_classes(layer_types: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"module classes such as \(nn.BatchNorm2d,\)"):
        FedBN(layer_types=layer_types)


def test_one_class_of_normalization_needs_no_tuple() -> None:
    assert FedBN(layer_types=nn.LayerNorm) == FedBN(layer_types=[nn.LayerNorm])  # type: ignore[arg-type]


def test_a_strategy_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Ditto(0.1).lambda_ditto = 0.2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RoundConfig(), FedAvg()),
        (RoundConfig(proximal_mu=0.1), FedProx(0.1)),
        (RoundConfig(lambda_ditto=0.2), Ditto(0.2)),
        (RoundConfig(head_layers=("head",)), FedPer(["head"])),
        (RoundConfig(head_layers=("head",), head_epochs=2), FedRep(["head"], head_epochs=2)),
        (RoundConfig(strategy="fedrep", head_layers=("head",), head_epochs=1), FedRep(["head"], 1)),
        (RoundConfig(strategy="fedbn"), FedBN()),
        (RoundConfig(mixing_alpha=0.5), APFL(0.5)),
        (RoundConfig(strategy="scaffold"), Scaffold()),
        (RoundConfig(strategy="scaffold", cohort_fraction=0.1), Scaffold(0.1)),
        (RoundConfig(strategy="ditto", lambda_ditto=0.0, proximal_mu=1.0), Ditto(0.0)),
        (RoundConfig(strategy="fedavg", lambda_ditto=0.3), FedAvg()),
    ],
)
def test_the_round_chooses_when_the_user_does_not(config: RoundConfig, expected: FederatedStrategy) -> None:
    assert resolve_strategy(None, config).strategy == expected


def test_what_the_user_leaves_open_comes_from_the_round() -> None:
    resolved = resolve_strategy(Ditto(buffers="local"), RoundConfig(strategy="ditto", lambda_ditto=0.5))

    assert resolved.strategy == Ditto(0.5, buffers="local")
    assert resolved.conflicts == ()


def test_explicit_arguments_win_and_the_conflict_is_told() -> None:
    """Zero is an explicit argument too."""
    resolved = resolve_strategy(Ditto(0.0), RoundConfig(strategy="fedavg", lambda_ditto=0.5))

    assert resolved.strategy == Ditto(0.0)
    assert resolved.conflicts == (
        "the strategy is ditto here and fedavg in the round",
        "lambda_ditto is 0.0 here and 0.5 in the round",
    )


def test_agreement_is_no_conflict() -> None:
    resolved = resolve_strategy(FedPer(["head"]), RoundConfig(strategy="fedper", head_layers=("head",)))

    assert resolved.conflicts == ()


@pytest.mark.parametrize("strategy", [FedProx(), Ditto(), FedPer(), FedRep(), APFL()])
def test_an_argument_must_be_given_by_someone(strategy: FederatedStrategy) -> None:
    with pytest.raises(ConfigurationError, match=strategy.round_fields[0]):
        resolve_strategy(strategy, RoundConfig())


def test_an_unknown_strategy_of_a_round_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'krum'; known are fedavg, .*, apfl, scaffold"):
        resolve_strategy(None, RoundConfig(strategy="krum"))


def test_what_a_round_says_at_any_length_is_named_at_its_ends() -> None:
    long = "x" * 10**6
    with pytest.raises(ConfigurationError, match=r"'xxx.*known are") as caught:
        resolve_strategy(None, RoundConfig(strategy=long))
    conflicts = resolve_strategy(FedPer(["head"]), RoundConfig(strategy=long, head_layers=(long,))).conflicts

    assert len(str(caught.value)) < 300
    assert len(conflicts) == 2
    assert all(len(line) < 200 for line in conflicts)


@pytest.mark.parametrize("strength", [1e308, 1e39, 1e-45, -1.0, float("nan"), float("inf")])
def test_a_strength_is_a_number_of_float32(strength: float) -> None:
    for kind in (FedProx, Ditto):
        with pytest.raises(ConfigurationError, match="that float32 holds, not"):
            kind(strength)


def test_a_third_party_strategy_is_taken_as_it_is() -> None:
    @dataclass(frozen=True)
    class Mine(FederatedStrategy):
        name: ClassVar[str] = "mine"

    resolved = resolve_strategy(Mine(), RoundConfig(strategy="fedavg"))

    assert resolved.strategy == Mine()
    assert resolved.conflicts == ("the strategy is mine here and fedavg in the round",)
