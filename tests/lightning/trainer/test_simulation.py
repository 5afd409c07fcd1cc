"""A whole federation in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from typing_extensions import override

from edgeml_client.errors import ConfigurationError, NonFiniteError
from edgeml_client.schemas import RoundConfig
from edgeml_lightning import (
    APFL,
    Ditto,
    FedAvg,
    FederatedStrategy,
    FederationHistory,
    FedPer,
    FedPerModule,
    FedProx,
    Scaffold,
)
from edgeml_lightning.errors import FederationError
from edgeml_lightning.federation_history import FederationRound
from edgeml_lightning.simulation import simulate
from edgeml_server import EmbeddedServer

Run = Callable[..., FederationHistory]

NUM_BYTES_OF_A_LINE = 3 * 4
"""Two weights and a bias in float32."""


@pytest.fixture
def run(plane: EmbeddedServer, line_class: Any, points_class: Any) -> Run:
    """Run a federation of three devices on small data for two rounds, unless told otherwise."""

    def simulate_lines(**arguments: Any) -> FederationHistory:
        defaults: dict[str, Any] = {
            "module_factory": line_class,
            "datamodules": [points_class(seed) for seed in range(3)],
            "rounds": 2,
            "server": plane,
            "trainer_options": {"accelerator": "cpu"},
        }
        return simulate(**(defaults | arguments))

    return simulate_lines


def test_every_device_trains_in_every_round_and_is_measured_after_it(run: Run) -> None:
    history = run(rounds=3)

    assert [round_.version for round_ in history] == ["2", "3", "4"]
    assert history[0].participants == ("device-00", "device-01", "device-02")
    losses = [round_.mean("val_loss", of="global") for round_ in history]
    assert losses == sorted(losses, reverse=True), "each round improves the global model on this easy problem"


def test_models_travel_in_both_directions(run: Run) -> None:
    round_ = run(rounds=1)[0]

    assert round_.num_bytes_received >= 3 * NUM_BYTES_OF_A_LINE
    assert round_.num_bytes_sent >= 3 * NUM_BYTES_OF_A_LINE


def test_the_same_seed_gives_the_same_figures_bit_for_bit(run: Run) -> None:
    first, again, other = (run(strategy=Ditto(lambda_ditto=0.1), seed=seed) for seed in (7, 7, 8))

    assert _figures(first) == _figures(again)
    assert _figures(first) != _figures(other)


def test_the_callers_random_streams_are_left_as_they_were(run: Run) -> None:
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the global stream is what is looked at
    expected = torch.rand(1), np.random.rand(1)  # noqa: NPY002 - as above
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - as above

    run(rounds=1)

    assert (torch.rand(1), np.random.rand(1)) == expected  # noqa: NPY002 - as above


def test_personal_training_leaves_the_shared_model_as_fedavg_makes_it(run: Run) -> None:
    """Ditto's second model draws from borrowed random streams, so the global models agree bit for bit."""
    fedavg, ditto = run(strategy=FedAvg()), run(strategy=Ditto(lambda_ditto=0.5))

    assert _figures(fedavg, kind="global") == _figures(ditto, kind="global")


@pytest.mark.parametrize(
    ("strategy", "kinds"),
    [
        (FedAvg(), {"global"}),
        (FedProx(proximal_mu=0.1), {"global"}),
        (Ditto(lambda_ditto=0.1), {"global", "personal"}),
        (APFL(0.5), {"global", "personal"}),
        (Scaffold(), {"global"}),
    ],
    ids=lambda value: getattr(value, "label", None),
)
def test_what_a_strategy_has_is_measured(run: Run, strategy: FederatedStrategy, kinds: set[str]) -> None:
    history = run(strategy=strategy, rounds=1)

    assert history.strategy == strategy.label
    device = history[0].devices[0]
    assert {kind for kind in ("global", "personal") if device.metrics(kind)} == kinds


class TwoLayers(L.LightningModule):
    """A body and a head, for strategies that keep the head on the device."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 1)

    def _loss(self, batch: Any) -> torch.Tensor:
        return nn.functional.mse_loss(self.head(self.body(batch[0])), batch[1])

    @override
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self._loss(batch)

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class TwoLayersOfFedPer(TwoLayers, FedPerModule):
    """The same, asking for the strategy by its class."""

    head_layers = ("head",)


@pytest.mark.parametrize(
    ("module_factory", "strategy"),
    [(TwoLayers, FedPer(head_layers=["head"])), (TwoLayersOfFedPer, None)],
    ids=["strategy", "module"],
)
def test_where_heads_stay_on_the_devices_there_is_no_whole_global_model(
    run: Run, module_factory: type[L.LightningModule], strategy: FederatedStrategy | None
) -> None:
    """The body has 6 of the 9 parameters; only those travel."""
    history = run(module_factory=module_factory, strategy=strategy)

    assert history.strategy == "fedper"
    assert history[-1].per_device("val_loss", of="global") == {}
    assert len(history[-1].per_device("val_loss", of="personal")) == 3


def test_the_strategy_can_be_the_rounds_own(run: Run) -> None:
    history = run(config=RoundConfig(strategy="ditto", lambda_ditto=0.2), rounds=1)

    assert history.strategy == "ditto"
    assert len(history[0].per_device("val_loss", of="personal")) == 3


def test_only_the_cohort_trains_and_everyone_is_measured(run: Run) -> None:
    history = run(cohort_size=2, rounds=4, strategy=Ditto(lambda_ditto=0.1))

    assert [len(round_.participants) for round_ in history] == [2, 2, 2, 2]
    assert len({round_.participants for round_ in history}) > 1, "the draw differs from round to round"
    assert all(len(round_.per_device("val_loss", of="global")) == 3 for round_ in history)


def test_the_draw_of_cohorts_follows_the_seed(run: Run) -> None:
    drawn = [[round_.participants for round_ in run(cohort_size=1, rounds=4, seed=seed)] for seed in (1, 1)]

    assert drawn[0] == drawn[1]


def test_rounds_are_reported_as_they_end(run: Run) -> None:
    seen: list[FederationRound] = []

    history = run(on_round=seen.append)

    assert seen == list(history)


def test_without_a_server_one_is_started_and_removed(run: Run) -> None:
    assert len(run(server=None, rounds=1)) == 1


def test_an_error_on_a_device_names_the_device_and_the_round(run: Run, points_class: Any) -> None:
    class Broken(points_class):  # type: ignore[misc] - the base is a fixture
        @override
        def train_dataloader(self) -> Any:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        run(datamodules=[points_class(0), Broken(1)])

    assert caught.value.__notes__ == ["This happened on device-01, during round 1 of the simulation."]


def test_training_that_diverges_is_told_for_what_it_is(run: Run, line_class: Any) -> None:
    class Diverging(line_class):  # type: ignore[misc] - the base is a fixture
        @override
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e30)

    with pytest.raises(NonFiniteError) as caught:
        run(module_factory=Diverging, trainer_options={"accelerator": "cpu", "max_epochs": 4})

    assert "device-00" in caught.value.__notes__[0]


def test_a_round_without_a_new_model_is_an_error(run: Run, plane: EmbeddedServer) -> None:
    def cancel_the_next(round_: FederationRound) -> None:
        finished = plane.get_round(_record(round_).round_id)
        assert finished.next_round_id is not None
        plane.cancel_round(finished.next_round_id)

    with pytest.raises(FederationError, match="round 2 of the simulation ended as 'abandoned'"):
        run(on_round=cancel_the_next)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"datamodules": []}])
def test_a_federation_needs_a_round_and_a_device(run: Run, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="at least one round and one data module"):
        run(**wrong)


def test_data_without_a_held_out_part_is_refused(run: Run, points_class: Any) -> None:
    class OnlyTraining(L.LightningDataModule):
        @override
        def train_dataloader(self) -> Any:
            return points_class().train_dataloader()

    with pytest.raises(ConfigurationError, match="no held-out data in common"):
        run(datamodules=[OnlyTraining()])


def _record(round_: FederationRound) -> Any:
    return round_.devices[0].training


def _figures(history: FederationHistory, *, kind: str = "") -> list[dict[str, object]]:
    return [{key: figure for key, figure in row.items() if kind in key} for row in history.to_rows()]
