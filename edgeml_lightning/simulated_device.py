"""One device of a simulation: enrolled, connected and trained like a real one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lightning as L

from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_client.auth import MemoryTokenStore
from edgeml_lightning.errors import FederationError
from edgeml_lightning.seeding import seeded
from edgeml_lightning.trainer import FederatedTrainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from edgeml_lightning.callbacks import FederatedCallback, RoundRecord
    from edgeml_lightning.strategies import FederatedStrategy

__all__ = ["SimulatedDevice", "connected_client", "named"]


@contextmanager
def named(device: str, *, during: str) -> Generator[None]:
    """Add to every error of the block on which device it happened, and during what."""
    try:
        yield
    except BaseException as exc:
        exc.add_note(f"This happened on {device}, during {during} of the simulation.")
        raise


def connected_client(
    name: str, *, url: str, org_id: str, bootstrap_token: str, folder: Path
) -> FederatedClient:
    """Enrol a device and return its registered client.

    Args:
        name: Its identifier on the control plane.
        url: The address of the control plane.
        org_id: Its organization.
        bootstrap_token: Enrols it.
        folder: Where it keeps its state.
    """
    auth = DeviceAuthClient(
        base_url=url, org_id=org_id, device_identifier=name, token_storage=MemoryTokenStore(), lock_dir=folder
    )
    auth.bootstrap_sync(bootstrap_bearer_token=bootstrap_token)
    client = FederatedClient(
        auth_token_provider=auth.get_access_token_sync,
        org_id=org_id,
        api_base=f"{url}/api/v1",
        device_identifier=name,
        state_dir=folder,
    )
    client.register()
    return client


class SimulatedDevice:
    """Owns what a device owns: its connection, its module, its data and its trainer.

    Args:
        name: Its identifier on the control plane.
        client: Its registered client.
        module: Its module.
        datamodule: Its data.
        model: The global model it trains.
        strategy: What a round does to its training.
        random_key: What its random streams depend on, besides the round.
        trainer_options: What ``lightning.Trainer`` takes.

    Attributes:
        personal: The personal model as it left the device's last round; ``None`` while it has none.
    """

    def __init__(
        self,
        name: str,
        *,
        client: FederatedClient,
        module: L.LightningModule,
        datamodule: L.LightningDataModule,
        model: str,
        strategy: FederatedStrategy | None,
        random_key: tuple[int, ...],
        trainer_options: Mapping[str, Any],
    ) -> None:
        self.name = name
        self.module = module
        self.datamodule = datamodule
        self.personal: L.LightningModule | None = None
        self._client = client
        self._model = model
        self._random_key = random_key
        self._federated = FederatedTrainer(
            client, model=model, strategy=strategy, trainer=L.Trainer(**trainer_options), wait_s=0.0
        )

    def is_chosen(self, round_id: str) -> bool:
        """Return whether this device is to train in a round and has not answered yet."""
        assignment = self._client.get_round_assignment(model=self._model)
        return assignment is not None and assignment.round_id == round_id

    def train(self, *, round_number: int) -> RoundRecord | None:
        """Train in the open round, or return ``None`` if this device was not chosen for it."""
        with named(self.name, during=f"round {round_number}"), seeded(*self._random_key, round_number):
            record = self._federated.fit_round(self.module, datamodule=self.datamodule)
        if record is not None:
            self.personal = _find_personal(self._federated.callback)
        return record


def _find_personal(callback: FederatedCallback) -> L.LightningModule | None:
    try:
        return callback.personal_module()
    except FederationError:
        return None
