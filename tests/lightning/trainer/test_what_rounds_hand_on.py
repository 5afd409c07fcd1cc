"""What one round of a trainer hands to the next: its place in the data, optimizers, schedules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, WeightAveraging
from typing_extensions import override

from edgeml_client.errors import ConfigurationError
from edgeml_lightning import FederatedTrainer
from edgeml_lightning.errors import UnsupportedTrainingError
from edgeml_lightning.personalization import PersonalKey

Quiet = Callable[..., L.Trainer]


class Seen(L.Callback):
    """Remembers inputs and learning rates of all steps, and whether optimizers remembered anything before."""

    def __init__(self) -> None:
        self.inputs: list[list[float]] = []
        self.rates: list[float] = []
        self.first_momenta: list[bool] = []

    @override
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.first_momenta.append(bool(trainer.optimizers[0].state))
        self.inputs.extend(batch[0].tolist())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


Schedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


def every_step(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)


def slowly(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)


def at_milestones(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5)


def halving(
    module: L.LightningModule, *, momentum: float = 0.0, lr: float = 0.08, schedule: Schedule = every_step
) -> L.LightningModule:
    """Give a module a schedule that halves the learning rate, by default after every step."""

    def configure() -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule(optimizer), "interval": "step"},
        }

    module.configure_optimizers = configure  # type: ignore[method-assign]
    return module


# Local steps.


def test_rounds_of_steps_go_on_in_the_data_where_the_last_one_stopped(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """Three rounds of two steps of four samples are 24 samples: twice all twelve, each time shuffled anew."""
    clinic.open_rounds(num_rounds=3)
    seen = Seen()
    federated = FederatedTrainer(
        clinic.device(), model="line", trainer=quiet(callbacks=[seen]), local_steps=2
    )

    history = federated.fit(line, datamodule=points, rounds=3)

    everything = sorted(points.points.tensors[0].tolist())
    first, second = seen.inputs[:12], seen.inputs[12:]
    assert sorted(first) == sorted(second) == everything
    assert first != second
    assert [record.num_steps for record in history] == [2, 2, 2]
    assert federated.trainer.current_epoch == 3
    assert points.train_dataloader.__self__ is points, "the user's data module is as it was"


def test_accumulated_batches_are_parts_of_one_step(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """Two steps of two batches of four samples: sixteen samples, of twelve different ones."""
    clinic.open_rounds()
    seen = Seen()
    federated = FederatedTrainer(
        clinic.device(),
        model="line",
        trainer=quiet(callbacks=[seen], accumulate_grad_batches=2),
        local_steps=2,
    )

    history = federated.fit(line, train_dataloaders=points.train_dataloader(), rounds=1)

    assert len(seen.inputs) == 16
    assert (history[0].num_steps, history[0].sample_count) == (2, 12)


def test_local_steps_need_no_max_epochs(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """They say how long a round is; the thousand epochs of a Trainer without a limit are never meant."""
    clinic.open_rounds(num_rounds=2)
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(max_epochs=None), local_steps=3)

    history = federated.fit(line, datamodule=points, rounds=2)

    assert [record.num_steps for record in history] == [3, 3]


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"max_epochs": 2}, {"local_steps": 2}, "max_epochs=2: give only one"),
        ({}, {"local_steps": 0}, "local_steps must be at least 1"),
        ({}, {"optimizers": "forget"}, 'optimizers must be "reset" or "keep"'),
        ({}, {"schedules": "stop"}, 'schedules must be "continue" or "restart"'),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    clinic: Any, quiet: Quiet, options: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FederatedTrainer(clinic.device(), model="line", trainer=quiet(**options), **arguments)


# Optimizers and schedules.


@pytest.mark.parametrize(("policy", "expected"), [("reset", [False, False]), ("keep", [False, True])])
def test_optimizers_forget_or_keep_what_they_remember(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet, *, policy: Any, expected: list[bool]
) -> None:
    clinic.open_rounds(num_rounds=2)
    seen = Seen()
    federated = FederatedTrainer(
        clinic.device(), model="line", trainer=quiet(callbacks=[seen]), optimizers=policy
    )

    federated.fit(halving(line, momentum=0.9), datamodule=points, rounds=2)

    assert seen.first_momenta == expected


def with_lbfgs(module: L.LightningModule) -> L.LightningModule:
    module.configure_optimizers = lambda: torch.optim.LBFGS(module.parameters(), lr=0.1)  # type: ignore[method-assign]
    return module


def test_lbfgs_starts_every_round_without_a_memory(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    clinic.open_rounds(num_rounds=2)
    seen = Seen()
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(callbacks=[seen]))

    history = federated.fit(with_lbfgs(line), datamodule=points, rounds=2)

    assert seen.first_momenta == [False, False]
    assert [record.update_status for record in history] == ["accepted", "accepted"]


def test_lbfgs_cannot_keep_its_memory_of_another_model(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    status = clinic.open_rounds()
    federated = FederatedTrainer(clinic.device(), model="line", trainer=quiet(), optimizers="keep")

    with pytest.raises(UnsupportedTrainingError, match=r"LBFGS cannot work .* first-order optimizer"):
        federated.fit(with_lbfgs(line), datamodule=points, rounds=1)

    assert clinic.plane.get_round(status.round_id).num_updates == 0


@pytest.mark.parametrize(
    ("policy", "second"), [("continue", [0.01, 0.005, 0.0025]), ("restart", [0.08, 0.04, 0.02])]
)
def test_schedules_count_over_the_rounds_or_start_anew(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet, *, policy: Any, second: list[float]
) -> None:
    """Three steps a round, each halving 0.08."""
    clinic.open_rounds(num_rounds=2)
    seen = Seen()
    federated = FederatedTrainer(
        clinic.device(), model="line", trainer=quiet(callbacks=[seen]), schedules=policy
    )

    federated.fit(halving(line), datamodule=points, rounds=2)

    assert seen.rates == pytest.approx([0.08, 0.04, 0.02, *second])


def test_a_schedule_may_ask_lightning_how_long_a_round_is(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """``estimated_stepping_batches`` are the six steps of a round in every round: two epochs of three.

    For callbacks, which compare it with ``current_epoch``, ``max_epochs`` counts over the rounds.
    """
    clinic.open_rounds(num_rounds=2)
    seen, last_epochs = Seen(), []
    starting = LambdaCallback(on_fit_start=lambda trainer, _: last_epochs.append(trainer.max_epochs))
    federated = FederatedTrainer(
        clinic.device(),
        model="line",
        trainer=quiet(callbacks=[starting, seen], max_epochs=2),
        schedules="restart",
    )

    def one_cycle(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        num_steps = int(federated.trainer.estimated_stepping_batches)
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=num_steps + 1)

    federated.fit(halving(line, schedule=one_cycle), datamodule=points, rounds=2)

    assert len(seen.rates) == 12
    assert seen.rates[:6] == seen.rates[6:]
    assert last_epochs == [2, 4]


def at_later_milestones(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [2], gamma=0.5)


@pytest.mark.parametrize(
    ("before", "changed", "rates", "words"),
    [
        ({}, {"lr": 0.4}, [0.08, 0.04, 0.02, 0.4, 0.2, 0.1], "lr of parameter group 0 is 0.4 and was 0.08"),
        (
            {},
            {"schedule": at_milestones},
            [0.08, 0.04, 0.02, 0.08, 0.04, 0.04],
            "schedule 0 is MultiStepLR and was StepLR",
        ),
        (
            {},
            {"schedule": slowly},
            [0.08, 0.04, 0.02, 0.08, 0.072, 0.0648],
            "gamma of schedule 0 is 0.9 and was 0.5",
        ),
        (
            {"schedule": at_milestones},
            {"schedule": at_later_milestones},
            [0.08, 0.04, 0.04, 0.08, 0.08, 0.04],
            "milestones of schedule 0 is [[2, 1]] and was [[1, 1], [3, 1]]",
        ),
    ],
    ids=["learning rate", "schedule", "gamma", "milestones"],
)
def test_a_schedule_that_the_module_gives_other_settings_starts_anew_with_a_warning(
    clinic: Any,
    line: L.LightningModule,
    points: Any,
    quiet: Quiet,
    caplog: pytest.LogCaptureFixture,
    *,
    before: dict[str, Any],
    changed: dict[str, Any],
    rates: list[float],
    words: str,
) -> None:
    """The state of a schedule holds its settings too: put back, it would undo the user's change unseen."""
    clinic.open_rounds(num_rounds=2)
    seen = Seen()
    federated = FederatedTrainer(
        clinic.device(), model="line", trainer=quiet(callbacks=[seen]), optimizers="keep"
    )
    federated.fit(halving(line, **before), datamodule=points, rounds=1)

    federated.fit(halving(line, **changed), datamodule=points, rounds=1)

    assert seen.rates == pytest.approx(rates)
    assert "learning rate schedules start anew" in caplog.text
    assert words in caplog.text


@pytest.mark.parametrize("schedule", [every_step, at_milestones])
def test_a_new_process_goes_on_with_the_optimizer_the_schedule_and_the_data(
    clinic_of: Any, plane: Any, line_class: Any, points: Any, quiet: Quiet, *, schedule: Schedule
) -> None:
    """Two rounds in one process, and two in two, train the same, bit for bit.

    What stands for a new process is that the marks of the last round are signed by another one.
    """

    def sign_for_another_process(federated: FederatedTrainer) -> None:
        client, record = federated.callback.connection.client(), federated.callback.last_round
        assert record is not None
        key = PersonalKey(
            org_id=client.org_id,
            device=client.register(),
            model_id=record.model_id,
            strategy=record.strategy,
        )
        store = federated.callback.connection.personal_store()
        marks = store.find_marks(key)
        assert marks is not None
        assert marks.ended is not None
        store.save_marks(key, replace(marks, process="an earlier one"))

    def trained(rounds: list[int]) -> list[float]:
        seen, clinic = Seen(), clinic_of(plane)
        clinic.open_rounds(num_rounds=2)
        client = clinic.device()
        for number in rounds:
            L.seed_everything(5, verbose=False)
            federated = FederatedTrainer(
                client, model="line", trainer=quiet(callbacks=[seen]), local_steps=2, optimizers="keep"
            )
            module = halving(line_class(), momentum=0.9, schedule=schedule)
            federated.fit(module, datamodule=points, rounds=number)
            sign_for_another_process(federated)
        return [value for pair in seen.inputs for value in pair] + seen.rates

    assert trained([1, 1]) == trained([2])


# Averages.


def test_an_average_of_weights_starts_from_the_received_model(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """The sanity check measures the average that WeightAveraging swaps in: it must be the received model.

    The average decays by one half a step from the model after the first step, so after three steps it is
    1/4 first + 1/4 second + 1/2 third, in every round anew; that is what is uploaded.
    """
    clinic.open_rounds(num_rounds=2)

    class Steps(L.Callback):
        """Remembers the weights after every step, and what validation sees."""

        def __init__(self) -> None:
            self.weights: list[torch.Tensor] = []
            self.checked: list[torch.Tensor] = []
            self.received: list[torch.Tensor] = []

        @override
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            self.weights.append(pl_module.layer.weight.detach().clone())

        @override
        def on_validation_batch_start(
            self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any
        ) -> None:
            if trainer.sanity_checking:
                self.checked.append(pl_module.layer.weight.detach().clone())

        @override
        def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.received.append(pl_module.layer.weight.detach().clone())

    steps = Steps()
    average = WeightAveraging(avg_fn=lambda kept, new, _: 0.5 * kept + 0.5 * new)
    client = clinic.device()
    federated = FederatedTrainer(client, model="line", trainer=quiet(callbacks=[steps, average]))

    history = federated.fit(line, datamodule=points, rounds=2)

    for checked, received in zip(steps.checked, steps.received, strict=True):
        assert torch.equal(checked, received)
    client.wait_for_round(history[-1].round_id, timeout_s=30)
    first, second, third = steps.weights[3:]
    latest = client.pull_global_model("line").torch_tensors()["layer.weight"]
    torch.testing.assert_close(latest, first / 4 + second / 4 + third / 2)


# The best global model.


def test_the_best_global_model_is_in_the_history_and_can_be_loaded(
    clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet
) -> None:
    """The learning rate of the second round is absurd: the third receives a worse model than it."""
    clinic.open_rounds(num_rounds=3)

    class Overshoot(L.Callback):
        @override
        def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.optimizers[0].param_groups[0]["lr"] = 3.0

    client = clinic.device()
    federated = FederatedTrainer(client, model="line", trainer=quiet(callbacks=[Overshoot()]))
    history = federated.fit(line, datamodule=points, rounds=3)

    best = history.best("val_loss", mode="min")

    assert (best.round_number, best.base_version) == (2, "2")
    expected = client.pull_global_model("line", "2")
    assert best.base_digest == expected.digest
    federated.load_global_(line, best)
    assert torch.equal(line.layer.weight, expected.torch_tensors()["layer.weight"])


def test_no_best_without_a_figure(clinic: Any, line: L.LightningModule, points: Any, quiet: Quiet) -> None:
    clinic.open_rounds()
    history = FederatedTrainer(clinic.device(), model="line", trainer=quiet()).fit(
        line, datamodule=points, rounds=1
    )

    with pytest.raises(ConfigurationError, match=r"no round measured 'accuracy'.*val_loss"):
        history.best("accuracy", mode="max")
