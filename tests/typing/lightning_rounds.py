"""What a type checker must know about many rounds and simulations; never run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_type

import lightning as L
import pandas as pd

from edgeml_client import FederatedClient
from edgeml_lightning import Ditto, FederatedTrainer, FederationHistory, History, RoundRecord
from edgeml_lightning.federation_history import DeviceRecord, FederationRound
from edgeml_lightning.simulation import simulate


def many_rounds(client: FederatedClient, module: L.LightningModule, data: L.LightningDataModule) -> None:
    federated = FederatedTrainer(client, model="digits", strategy=Ditto(0.1), trainer=L.Trainer(max_epochs=2))
    history = federated.fit(module, datamodule=data, rounds=20)
    assert_type(history, History)
    assert_type(history[0], RoundRecord)
    assert_type(history[1:], tuple[RoundRecord, ...])
    assert_type(history.end_reason, str | None)
    assert_type(history.to_frame(), pd.DataFrame)
    assert_type(federated.fit_round(module, datamodule=data), RoundRecord | None)


def a_simulation(make: Callable[[], L.LightningModule], data: Sequence[L.LightningDataModule]) -> None:
    history = simulate(make, data, rounds=3, strategy=Ditto(0.1), seed=1, on_round=print)
    assert_type(history, FederationHistory)
    assert_type(history[-1], FederationRound)
    assert_type(history[-1].devices, tuple[DeviceRecord, ...])
    assert_type(history[-1].mean("val_acc", of="personal"), float | None)
    assert_type(history[-1].per_device("val_acc", of="global"), dict[str, float])
    history[-1].mean("val_acc", of="local")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
