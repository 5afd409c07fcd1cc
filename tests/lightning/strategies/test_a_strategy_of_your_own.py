"""What a third party's strategy may say, what follows from it, and how mistakes in it are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_client.schemas import RoundConfig
from edgeml_lightning import FedAvg, FederatedCallback, FederatedStrategy, FedProx, Scaffold
from edgeml_lightning.functional import variate_correction
from edgeml_lightning.simulation import simulate
from edgeml_lightning.strategies import (
    Companions,
    GradientTerm,
    Mixing,
    ModelPair,
    PersonalModel,
    Turn,
    proximal_term,
    resolve_strategy,
)
from edgeml_server import EmbeddedServer
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer


class Undecorated(FederatedStrategy):
    reach: float = 1.0


class UnderIt(Undecorated):
    pass


@dataclass(frozen=True)
class Decorated(FederatedStrategy):
    reach: float = 1.0


class OnlyMethods(Decorated):
    name: ClassVar[str] = "mine"

    @override
    def private_layers(self, module: nn.Module) -> tuple[str, ...]:
        return ("classifier",)


@pytest.mark.parametrize("kind", [Undecorated, UnderIt])
@pytest.mark.parametrize("arguments", [{}, {"reach": 2.0}])
def test_new_fields_without_the_decorator_are_told_with_the_line_that_is_missing(
    kind: Any, arguments: dict[str, float]
) -> None:
    with pytest.raises(ConfigurationError, match=r"Undecorated has new fields \(reach\).*@dataclass\(froz"):
        kind(**arguments)


def test_a_subclass_without_new_fields_needs_no_decorator() -> None:
    assert OnlyMethods(2.0).reach == 2.0


@pytest.mark.parametrize("value", ["gradient_term", "turns", "personal_model", "companions"])
def test_a_value_that_is_a_method_is_told_to_become_a_property(value: str) -> None:
    kind = type("Mine", (FederatedStrategy,), {value: lambda self: None})

    with pytest.raises(ConfigurationError, match=rf"Mine.{value} is a method.*write @property above it"):
        kind()


@pytest.mark.parametrize("declared", ["round_fields", "optional_round_fields"])
@pytest.mark.parametrize("name", ["proximal_mu", "reach"], ids=["of a round alone", "of the class alone"])
def test_a_field_that_rounds_fill_must_be_one_of_both(declared: str, name: str) -> None:
    kind = type("Mine", (Decorated,), {declared: (name,)})

    with pytest.raises(ConfigurationError, match=f"Mine lets rounds fill {name}, which must be"):
        kind()


def test_a_strategy_cannot_be_called_as_arrays_of_a_personal_model_are() -> None:
    class Personal(FederatedStrategy):
        pass

    with pytest.raises(ConfigurationError, match="Personal must not be called 'personal'"):
        Personal()


def test_a_personal_model_inside_of_the_module_is_not_mixed() -> None:
    with pytest.raises(ConfigurationError, match="leave out mixing or inside"):
        PersonalModel(mixing=Mixing(0.5), inside=ModelPair(shared="model", personal="mine"))


def test_a_round_needs_an_epoch_for_every_turn() -> None:
    @dataclass(frozen=True)
    class InTurn(FederatedStrategy):
        turns = (Turn("kept", 2), Turn("all", 3), Turn("shared"))

    assert InTurn().min_epochs == 2 + 3 + 1
    assert FedAvg().min_epochs == 1


def test_optional_fields_are_filled_by_the_round_or_left_open() -> None:
    @dataclass(frozen=True)
    class Mine(FederatedStrategy):
        round_fields: ClassVar[tuple[str, ...]] = ("proximal_mu",)
        optional_round_fields: ClassVar[tuple[str, ...]] = ("cohort_fraction",)

        proximal_mu: float | None = None
        cohort_fraction: float | None = None

    open_, filled = RoundConfig(proximal_mu=1.0), RoundConfig(proximal_mu=1.0, cohort_fraction=0.5)

    assert resolve_strategy(Mine(), open_).strategy == Mine(1.0)
    assert resolve_strategy(Mine(), filled).strategy == Mine(1.0, 0.5)
    assert resolve_strategy(Mine(1.0, 0.25), filled).conflicts == (
        "cohort_fraction is 0.25 here and 0.5 in the round",
    )
    with pytest.raises(ConfigurationError, match="Mine needs proximal_mu"):
        resolve_strategy(Mine(), RoundConfig(cohort_fraction=0.5))


class PersonalPart(DigitsNet):
    """Holds two classifiers: the shared one, and one of the device's own that is pulled to it."""

    def __init__(self) -> None:
        super().__init__()
        self.mine = nn.Linear(16, 10)

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        features = self.body(batch[0])
        losses = [
            nn.functional.cross_entropy(head(features), batch[1]) for head in (self.classifier, self.mine)
        ]
        return losses[0] + losses[1]


@dataclass(frozen=True)
class PulledPart(FederatedStrategy):
    strength: float

    @property
    @override
    def personal_model(self) -> PersonalModel:
        inside = ModelPair(shared="classifier", personal="mine")
        return PersonalModel(gradient_term=proximal_term(self.strength), inside=inside)


class LastGradient(L.Callback):
    """Looks at the gradient of the personal part before anything is added to it."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.gradient = pl_module.mine.weight.grad.clone()


def test_a_personal_part_of_the_module_begins_as_the_shared_one_and_is_pulled_to_what_was_received(
    federation: Federation,
) -> None:
    """A pull of 1 / lr takes each step back to w_t but for its gradient: w - lr (g + (w - w_t) / lr)."""
    lr = 0.1
    strategy, received = PulledPart(1 / lr), seeded(PersonalPart)
    federation.register_model_state(strategy.shared_state(received))
    client = federation.enrol("device")
    federation.open_rounds()
    module, last = seeded(PersonalPart, seed=1), LastGradient()
    callback = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)

    trainer(last, callback, max_epochs=2).fit(module, loader(digits_of(0)))

    expected = received.classifier.weight - lr * last.gradient
    torch.testing.assert_close(module.mine.weight, expected, rtol=0, atol=1e-6)
    assert callback.personal_module() is module
    assert not [name for name in federation.global_state() if name.startswith("mine")]


# What travels beside the model.


@dataclass(frozen=True)
class DualPull(FederatedStrategy):
    """Reads a device's variate from its pull at the end, where the gradient balances it."""

    name: ClassVar[str] = "dual-pull"

    mu: float = 1.0

    @property
    @override
    def gradient_term(self) -> GradientTerm | None:
        return proximal_term(self.mu)

    @property
    @override
    def companions(self) -> Companions:
        return Companions(correction=variate_correction, next_own=self._next_own)

    def _next_own(self, own: Tensor, received: Tensor, *, moved: Tensor, step_size: float) -> Tensor:
        return own - received - self.mu * moved


class Slope(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1, bias=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.line(batch[0]), batch[1]) / 2

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("slope", self.line.weight)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


class Points(L.LightningDataModule):
    """Twenty batches of y = slope * x at x = stretch and -stretch: f(w) = stretch^2 / 2 * (w - slope)^2."""

    def __init__(self, slope: float, *, stretch: float) -> None:
        super().__init__()
        x = torch.tensor([[stretch], [-stretch]]).repeat(20, 1)
        self.points = TensorDataset(x, slope * x)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.points, batch_size=2)

    val_dataloader = train_dataloader


def test_a_companion_of_ones_own_takes_the_drift_of_the_devices_out(
    control_plane: EmbeddedServer,
) -> None:
    """The mean of f_1 = (w - 1)^2 / 2 and f_2 = 4 (w - 3)^2 / 2 is least at (1 * 1 + 4 * 3) / 5 = 2.6.

    Twenty steps leave nothing of a local problem. FedProx then stands still where the mean of the y_i is x:
    y_1 = (1 + x) / 2 and y_2 = (12 + x) / 5, so that 2 x = 2.9 + 0.7 x and x = 29 / 13.
    """
    devices = [Points(1.0, stretch=1.0), Points(3.0, stretch=2.0)]

    def slope_of(strategy: FederatedStrategy) -> float:
        history = simulate(Slope, devices, strategy=strategy, rounds=8, server=control_plane)
        return history[-1].mean("slope", of="global")

    assert slope_of(FedProx(1.0)) == pytest.approx(29 / 13, abs=1e-2)
    assert slope_of(DualPull(1.0)) == pytest.approx(2.6, abs=1e-2)


def test_companions_are_called_after_the_strategy_and_belong_to_what_is_shared() -> None:
    @dataclass(frozen=True)
    class Renamed(Scaffold):
        name: ClassVar[str] = "mine"

    names = set(Renamed().shared_state(nn.Linear(4, 2)))

    assert names == {"weight", "bias", "mine/weight", "mine/bias"}


def test_a_global_model_without_the_companions_is_told_what_to_register(federation: Federation) -> None:
    federation.register_model(seeded(DigitsNet))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=DualPull(), wait_s=30)

    with pytest.raises(ConfigurationError, match=r"'dual-pull/body.0.bias'.*DualPull\(\.\.\.\).shared_state"):
        trainer(callback).fit(seeded(DigitsNet), loader(digits_of(0)))
