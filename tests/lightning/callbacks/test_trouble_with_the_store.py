"""What is personal and cannot be kept does not cost the federation the update of the round."""

from __future__ import annotations

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
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def ready(federation: Federation, strategy: FederatedStrategy, **arguments: Any) -> FederatedCallback:
    federation.register_model_state(strategy.shared_state(seeded()))
    client = federation.enrol("device")
    federation.open_rounds()
    return FederatedCallback(client, model="digits", strategy=strategy, wait_s=30, **arguments)


def test_an_update_arrives_though_the_optimizers_memory_passes_the_limit(
    federation: Federation, tmp_path: Path
) -> None:
    """The model takes half of the room, so that training begins; with Adam's moments it is three halves."""
    num_bytes = sum(array.nbytes for array in DigitsNet().state_dict().values())
    store = PersonalStore(tmp_path / "store", max_bytes=2 * num_bytes)
    callback = ready(federation, Ditto(0.1), personal_store=store)

    with pytest.raises(PersonalStoreFullError) as caught:
        trainer(callback).fit(seeded(AdamNet), loader(digits_of(0)))

    assert callback.last_receipt is not None
    assert callback.last_round is not None
    assert callback.last_round.update_status == "accepted"
    assert caught.value.__notes__ == [f"The update of {callback.last_round.round_id} was sent all the same."]
    assert not list(store.root.rglob("0*.safetensors"))


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
