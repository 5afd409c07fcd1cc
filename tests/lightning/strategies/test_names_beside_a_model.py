"""What a strategy keeps or sends beside the model's arrays has names of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning import FederatedCallback, FederatedStrategy
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer


@dataclass(frozen=True)
class Beside(FederatedStrategy):
    """Keeps and sends one number each."""

    kept: str | None = None
    sent: str | None = None

    @override
    def own_arrays(self, module: nn.Module) -> dict[str, Tensor]:
        return {} if self.kept is None else {self.kept: torch.zeros(())}

    @override
    def companions(self, module: nn.Module) -> dict[str, Tensor]:
        return {} if self.sent is None else {self.sent: torch.zeros(())}


@pytest.fixture(name="fit")
def one_fit(federation: Federation) -> Callable[[FederatedStrategy], FederatedCallback]:
    def fit(strategy: FederatedStrategy) -> FederatedCallback:
        module = seeded(DigitsNet)
        companions = strategy.companions(module)
        federation.register_model_state(FederatedStrategy.shared_state(Beside(), module) | companions)
        client = federation.enrol("device")
        federation.open_rounds()
        callback = FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)
        trainer(callback).fit(module, loader(digits_of(0)))
        return callback

    return fit


@pytest.mark.parametrize("name", ["steps", "personal/steps"])
def test_a_kept_array_that_could_be_one_of_a_model_is_refused(
    fit: Callable[[FederatedStrategy], FederatedCallback], name: str
) -> None:
    """A dot or nothing stands in paths of the module; ``personal/`` is in front of the second model's."""
    with pytest.raises(ConfigurationError, match=rf"Beside calls .*'{name}'.*such as 'beside/steps'"):
        fit(Beside(kept=name))


def test_a_kept_array_with_a_prefix_of_its_own_is_kept(
    fit: Callable[[FederatedStrategy], FederatedCallback],
) -> None:
    assert fit(Beside(kept="beside/steps")).last_receipt is not None


def test_a_companion_that_is_not_kept_is_refused_before_training(
    fit: Callable[[FederatedStrategy], FederatedCallback],
) -> None:
    """What is sent of it is the change of the device's own."""
    with pytest.raises(ConfigurationError, match=r"beside/steps in own_arrays too"):
        fit(Beside(sent="beside/steps"))


def test_a_companion_that_could_be_one_of_a_model_is_not_registered() -> None:
    with pytest.raises(ConfigurationError, match="'steps'"):
        Beside(sent="steps").shared_state(DigitsNet())
