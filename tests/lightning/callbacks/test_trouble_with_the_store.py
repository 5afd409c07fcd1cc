"""What is personal and cannot be kept does not cost the federation the update of the round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from edgeml_lightning import Ditto, FederatedCallback, FederatedStrategy, FedPer, Scaffold
from edgeml_lightning.errors import PersonalStoreError, PersonalStoreFullError
from edgeml_lightning.personalization import PersonalStore
from tests.lightning.federation import DigitsNet, Federation, digits_of, loader, seeded, trainer


class AdamNet(DigitsNet):
    """So wide that the marks of the random streams beside its arrays, some 16 kB, are small."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU())
        self.classifier = torch.nn.Linear(512, 100)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def ready(
    federation: Federation,
    strategy: FederatedStrategy,
    kind: Callable[[], DigitsNet] = DigitsNet,
    **arguments: Any,
) -> FederatedCallback:
    federation.register_model_state(strategy.shared_state(seeded(kind)))
    client = federation.enrol("device")
    federation.open_rounds()
    return FederatedCallback(client, model="digits", strategy=strategy, wait_s=30, **arguments)


class StepsCounted(L.Callback):
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.num_steps = trainer.global_step


@pytest.mark.parametrize(
    ("strategy", "personal"), [(Ditto(0.1), ""), (FedPer(["classifier"]), "classifier.")]
)
def test_room_for_the_optimizers_memory_is_checked_after_the_first_step(
    federation: Federation, tmp_path: Path, strategy: FederatedStrategy, personal: str
) -> None:
    """Each of Adam's two moments is as large as what is kept: it fits twice, and must thrice."""
    state = AdamNet().state_dict()
    num_bytes = sum(array.nbytes for name, array in state.items() if name.startswith(personal))
    store = PersonalStore(tmp_path / "store", max_bytes=5 * num_bytes // 2)
    callback, steps = ready(federation, strategy, AdamNet, personal_store=store), StepsCounted()

    with pytest.raises(PersonalStoreFullError) as caught:
        trainer(steps, callback).fit(seeded(AdamNet), loader(digits_of(0)))

    assert steps.num_steps == 1
    assert caught.value.needed_bytes >= 3 * num_bytes
    assert callback.last_receipt is None
    assert federation.clients[0].get_round_assignment(model="digits") is not None


def test_frozen_arrays_of_a_second_model_need_no_room(federation: Federation, tmp_path: Path) -> None:
    """Only the head is kept of it, with its two moments: there is no room for the body."""

    class Frozen(AdamNet):
        def __init__(self) -> None:
            super().__init__()
            self.body.requires_grad_(False)

    num_bytes = sum(array.nbytes for array in AdamNet().classifier.state_dict().values())
    store = PersonalStore(tmp_path / "store", max_bytes=3 * num_bytes + 50_000)
    callback = ready(federation, Ditto(0.1, trainable_only=True), Frozen, personal_store=store)

    trainer(callback).fit(seeded(Frozen), loader(digits_of(0)))

    assert callback.last_receipt is not None


class FolderGone(L.Callback):
    """After training, a file lies where the store wants a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.root.rename(self.root.with_name("gone"))
        self.root.write_bytes(b"")


def test_an_update_arrives_though_the_store_cannot_be_written(federation: Federation, tmp_path: Path) -> None:
    store = PersonalStore(tmp_path / "store")
    callback = ready(federation, FedPer(["classifier"]), personal_store=store)

    with pytest.raises(PersonalStoreError, match=r"cannot be kept.*in a writable folder"):
        trainer(callback, FolderGone(store.root)).fit(seeded(), loader(digits_of(0)))

    assert callback.last_receipt is not None


def test_no_update_is_sent_whose_control_variates_cannot_be_kept(
    federation: Federation, tmp_path: Path
) -> None:
    """The global variates would move, and the device's own would not: the round starts again instead."""
    store = PersonalStore(tmp_path / "store")
    callback = ready(federation, Scaffold(), personal_store=store)

    with pytest.raises(PersonalStoreError):
        trainer(callback, FolderGone(store.root)).fit(seeded(), loader(digits_of(0)))

    assert callback.last_receipt is None
    assert federation.clients[0].get_round_assignment(model="digits") is not None
