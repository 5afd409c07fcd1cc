"""Ditto on an untouched module: the second model follows Lightning's rules and never disturbs the first."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from edgeml_client.errors import ConfigurationError
from edgeml_lightning import Ditto, FedAvg, FederatedCallback, FedProx
from edgeml_lightning.callbacks.schedules import step_schedules
from edgeml_lightning.errors import PersonalStateError, UnsupportedTrainingError
from edgeml_lightning.functional import proximal_penalty
from tests.lightning.federation import Batch, DigitsNet, Federation, digits_of, loader, seeded, trainer

AWKWARD: dict[str, Any] = {
    "max_epochs": 2,
    "accumulate_grad_batches": 3,
    "gradient_clip_val": 0.2,
    "num_sanity_val_steps": 2,
}
"""Four batches an epoch in windows of three, so that the last one is short; clipped; validated."""


class Net(DigitsNet):
    """With dropout, momentum and a schedule."""

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": StepLR(optimizer, 2), "interval": "step"},
        }


def make() -> Net:
    module: Net = seeded(Net, dropout=0.5)
    return module


def joined(federation: Federation, *, strategy: Any, num_rounds: int = 1) -> FederatedCallback:
    federation.register_model(make())
    client = federation.enrol("device")
    federation.open_rounds(num_rounds=num_rounds)
    return FederatedCallback(client, model="digits", strategy=strategy, wait_s=30)


def fit(module: L.LightningModule, *callbacks: L.Callback, **arguments: Any) -> L.Trainer:
    torch.manual_seed(11)
    running = trainer(*callbacks, **{**AWKWARD, **arguments})
    running.fit(module, loader(digits_of(0), shuffle=True), loader(digits_of(1)))
    return running


def local(module: L.LightningModule | None = None, **arguments: Any) -> tuple[dict[str, Tensor], L.Trainer]:
    """Train without a federation."""
    module = module or make()
    running = fit(module, **arguments)
    return dict(module.state_dict()), running


def assert_equal(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        assert torch.equal(ours[name], value), name


def test_the_shared_model_is_untouched_bit_for_bit(federation: Federation) -> None:
    """Dropout, shuffling, clipping, schedule and statistics are those of training without Ditto."""
    module = make()

    fit(module, joined(federation, strategy=Ditto(0.7)))

    assert_equal(dict(module.state_dict()), local()[0])


def test_strength_zero_is_local_training_bit_for_bit(federation: Federation) -> None:
    """The personal model sees the same batches and the same random numbers, and steps at the same times."""
    callback = joined(federation, strategy=Ditto(0.0))

    running = fit(make(), callback)

    state, alone = local()
    assert_equal(dict(callback.personal_module().state_dict()), state)
    for key in ("train_loss", "val_loss", "val_accuracy"):
        assert running.callback_metrics[f"personal/{key}"] == alone.callback_metrics[key]
        assert running.callback_metrics[key] == alone.callback_metrics[key]


def test_the_personal_model_minimises_its_objective(federation: Federation) -> None:
    """In the first round v trains on F(v) + lambda/2 |v - w^t|^2, here given to autograd as it stands."""

    class WithTerm(Net):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) + proximal_penalty(
                self.parameters(), anchors, mu=0.5
            )

    anchors = [param.detach().clone() for param in make().parameters()]
    callback = joined(federation, strategy=Ditto(0.5))

    fit(make(), callback)

    expected, _ = local(seeded(WithTerm, dropout=0.5))
    ours = callback.personal_module().state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6, msg=name)


def test_schedules_follow_the_personal_figures(federation: Federation) -> None:
    """A plateau of the personal loss lowers the personal learning rate, of epochs before the last."""

    class Watching(DigitsNet):
        rates: list[float]

        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=0.1)
            # Nothing is ever better by 100: every epoch is a plateau.
            plateau = ReduceLROnPlateau(
                optimizer, patience=0, factor=0.5, threshold=100, threshold_mode="abs"
            )
            epochs = StepLR(optimizer, 1, gamma=0.1)
            return [optimizer], [
                {"scheduler": plateau, "monitor": "val_loss"},
                {"scheduler": epochs, "interval": "epoch", "frequency": 2},
            ]

        def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
            if self.trainer.is_last_batch:
                self.rates = [*getattr(self, "rates", []), optimizer.param_groups[0]["lr"]]

    federation.register_model(seeded(Watching))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=Ditto(0.1), wait_s=30)
    module = seeded(Watching)

    fit(module, callback, max_epochs=4)

    personal = callback.personal_module()
    assert isinstance(personal, Watching)
    assert personal.rates == pytest.approx(module.rates)
    assert personal.rates[-1] < 0.01


def test_a_schedule_may_watch_what_is_not_logged_if_it_is_not_strict(federation: Federation) -> None:
    class Watching(DigitsNet):
        def configure_optimizers(self) -> Any:
            optimizer = SGD(self.parameters(), lr=0.1)
            scheduler = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_f1", "strict": False}
            return {"optimizer": optimizer, "lr_scheduler": scheduler}

    federation.register_model(seeded(Watching))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=Ditto(0.1), wait_s=30)

    with pytest.warns(RuntimeWarning, match="val_f1"):  # Lightning's own, about the shared model
        fit(seeded(Watching), callback)

    assert callback.last_round is not None
    assert callback.last_round.update_status == "accepted"


def test_a_strict_schedule_that_watches_nothing_logged_is_refused() -> None:
    module = DigitsNet()
    scheduler = ReduceLROnPlateau(SGD(module.parameters(), lr=0.1))
    config = LRSchedulerConfig(scheduler, monitor="val_f1", reduce_on_plateau=True)

    with pytest.raises(ConfigurationError, match="'val_f1', which was not logged; available are: val_loss"):
        step_schedules(
            module,
            [config],
            interval="epoch",
            number=1,
            plateau=True,
            metrics={"val_loss": torch.tensor(1.0)},
        )


def test_the_personal_model_and_its_momentum_survive_a_restart(federation: Federation) -> None:
    """Two rounds with everything made anew in between end where two rounds in one go do."""
    federation.register_model(make())
    clients = [federation.enrol("restarting"), federation.enrol("staying")]
    federation.open_rounds(num_rounds=2, min_updates=2)
    staying = FederatedCallback(clients[1], model="digits", strategy=Ditto(0.3), wait_s=30)
    module = make()
    for _ in range(2):
        restarting = FederatedCallback(clients[0], model="digits", strategy=Ditto(0.3), wait_s=30)
        fit(seeded(Net, seed=9, dropout=0.5), restarting)
        fit(module, staying)

    assert_equal(
        dict(restarting.personal_module().state_dict()), dict(staying.personal_module().state_dict())
    )
    states = sorted(path.name for path in clients[0].device_dir.rglob("0*.safetensors"))
    assert states == ["00000001.safetensors", "00000002.safetensors"]


def test_a_damaged_personal_model_is_set_aside_and_the_next_fit_goes_on(federation: Federation) -> None:
    callback = joined(federation, strategy=Ditto(0.3), num_rounds=2)
    fit(make(), callback)
    (path,) = federation.clients[0].device_dir.rglob("0*.safetensors")
    path.write_bytes(b"damaged")

    with pytest.raises(PersonalStateError, match="is kept as"):
        fit(make(), callback)

    fit(make(), callback)
    assert callback.last_round is not None
    assert callback.last_round.round_number == 2
    assert (path.parent / "refused" / path.name).read_bytes() == b"damaged"


def test_a_personal_model_that_diverged_is_not_kept(
    federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    """The pull with lambda = 1e38 overflows, while the shared model trains well and is sent."""
    callback = joined(federation, strategy=Ditto(1e38), num_rounds=2)

    fit(make(), callback, gradient_clip_val=None)

    assert "the one from before this round is kept" in caplog.text
    assert callback.last_round is not None
    assert callback.last_round.update_status == "accepted"
    assert not list(federation.clients[0].device_dir.rglob("0*.safetensors"))


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`:UserWarning")
def test_a_skipped_batch_is_skipped_by_both(federation: Federation) -> None:
    class Skipping(Net):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx == 1 else {"loss": loss, "note": "a mapping, as Lightning allows"}

    federation.register_model(seeded(Skipping, dropout=0.5))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=Ditto(0.0), wait_s=30)
    module = seeded(Skipping, dropout=0.5)

    fit(module, callback)

    assert_equal(dict(callback.personal_module().state_dict()), dict(module.state_dict()))


def test_manual_optimization_is_refused_with_the_way_out(federation: Federation) -> None:
    module = make()
    module.automatic_optimization = False
    callback = joined(federation, strategy=Ditto(0.1))

    with pytest.raises(UnsupportedTrainingError, match="DittoModule"):
        fit(module, callback, accumulate_grad_batches=1, gradient_clip_val=None)


def test_a_shared_gradient_scaler_is_refused(federation: Federation) -> None:
    with pytest.raises(UnsupportedTrainingError, match="bf16-mixed"):
        fit(make(), joined(federation, strategy=Ditto(0.1)), plugins=[MixedPrecision("16-mixed", "cpu")])


@pytest.mark.filterwarnings("ignore:You are using the `dataloader_iter` step flavor:UserWarning")
def test_a_module_that_takes_the_iterator_is_refused(federation: Federation) -> None:
    class Iterating(Net):
        def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
            batch, batch_idx, _ = next(dataloader_iter)
            return super().training_step(batch, batch_idx)

    with pytest.raises(UnsupportedTrainingError, match="iterator"):
        fit(
            seeded(Iterating, dropout=0.5),
            joined(federation, strategy=Ditto(0.1)),
            accumulate_grad_batches=1,
            num_sanity_val_steps=0,
        )


def test_a_module_that_cannot_be_copied_is_refused(federation: Federation) -> None:
    module = make()
    module.lock = (number for number in range(1))  # a generator, which Python copies in no way

    with pytest.raises(UnsupportedTrainingError, match="cannot be copied"):
        fit(module, joined(federation, strategy=Ditto(0.1)))


def test_lbfgs_is_refused_where_a_term_is_added(federation: Federation) -> None:
    class Searching(DigitsNet):
        def configure_optimizers(self) -> Optimizer:
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=2)

    callback = joined(federation, strategy=FedProx(0.1))
    arguments = {"accumulate_grad_batches": 1, "gradient_clip_val": None}

    with pytest.raises(UnsupportedTrainingError, match="LBFGS"):
        fit(seeded(Searching), callback, **arguments)

    callback.strategy = FedAvg()
    fit(seeded(Searching), callback, **arguments)
    assert callback.last_round is not None


def test_steps_without_a_batch_number_and_several_validation_sets(federation: Federation) -> None:
    """The personal model's steps are called as Lightning calls the module's."""

    class Short(DigitsNet):
        def training_step(self, batch: Batch) -> Tensor:  # type: ignore[override]
            return super().training_step(batch, 0)

        def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int) -> None:  # type: ignore[override]
            images, labels = batch
            self.log("val_loss", torch.nn.functional.cross_entropy(self(images), labels))

    federation.register_model(seeded(Short))
    client = federation.enrol("device")
    federation.open_rounds()
    callback = FederatedCallback(client, model="digits", strategy=Ditto(0.0), wait_s=30)

    running = trainer(callback)
    running.fit(seeded(Short), loader(digits_of(0)), [loader(digits_of(1)), loader(digits_of(2))])

    for number in range(2):
        key = f"val_loss/dataloader_idx_{number}"
        assert running.callback_metrics[f"personal/{key}"] == running.callback_metrics[key]
