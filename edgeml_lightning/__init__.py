"""Federated and personalized training for PyTorch Lightning.

One callback on a ``lightning.Trainer`` makes ``fit`` one federated round::

    callback = FederatedCallback(client, model="digits", strategy=Ditto(lambda_ditto=0.1))
    trainer = L.Trainer(max_epochs=1, callbacks=[callback])
    trainer.fit(module, datamodule=data)

Names are imported when they are first used, so that the package itself needs neither torch nor lightning.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from edgeml_client._version import __version__
from edgeml_lightning._extra import lightning_extra

if TYPE_CHECKING:
    from edgeml_lightning.callbacks import FederatedCallback, RoundRecord
    from edgeml_lightning.exchange import model_state
    from edgeml_lightning.federation_history import FederationHistory
    from edgeml_lightning.personalization import DittoModule, FedPerModule, PersonalStore
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
    )
    from edgeml_lightning.trainer import FederatedTrainer, History

__all__ = [
    "APFL",
    "Ditto",
    "DittoModule",
    "FedAvg",
    "FedBN",
    "FedPer",
    "FedPerModule",
    "FedProx",
    "FedRep",
    "FederatedCallback",
    "FederatedStrategy",
    "FederatedTrainer",
    "FederationHistory",
    "History",
    "PersonalStore",
    "RoundRecord",
    "Scaffold",
    "__version__",
    "model_state",
]

_HOMES: Final = {
    "APFL": "strategies",
    "Ditto": "strategies",
    "DittoModule": "personalization",
    "FedAvg": "strategies",
    "FedBN": "strategies",
    "FedPer": "strategies",
    "FedPerModule": "personalization",
    "FedProx": "strategies",
    "FedRep": "strategies",
    "FederatedCallback": "callbacks",
    "FederatedStrategy": "strategies",
    "FederatedTrainer": "trainer",
    "FederationHistory": "federation_history",
    "History": "trainer",
    "PersonalStore": "personalization",
    "RoundRecord": "callbacks",
    "Scaffold": "strategies",
    "model_state": "exchange",
}


def __getattr__(name: str) -> object:
    """Import the public name ``name`` from its module.

    Raises:
        AttributeError: There is no such name.
        MissingExtraError: torch, lightning or torchmetrics is not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with lightning_extra(f"edgeml_lightning.{name}"):
        home = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(home, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
