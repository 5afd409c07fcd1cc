"""A federated fit from the command line: LightningCLI builds module, data, trainer and callback from YAML.

On a device it would be started as::

    EDGEML_API_BASE=https://plane.example/api/v1 EDGEML_ORG_ID=clinic-a EDGEML_DEVICE_ID=mri-3 \
        python train.py fit --config lightning_cli.yaml
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import lightning as L
import torch
from digits import DigitsNet, digits_of_devices
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader
from typing_extensions import override

from edgeml_client import DeviceAuthClient
from edgeml_server import EmbeddedServer

CONFIG = Path(__file__).with_suffix(".yaml")


class DeviceDigits(L.LightningDataModule):
    """One device's digits, chosen by its number.

    Args:
        device: Counts from 0.
        num_devices: Over which the digits are dealt.
    """

    def __init__(self, device: int = 0, num_devices: int = 10) -> None:
        super().__init__()
        self._digits = digits_of_devices(num_devices, seed=0)[device]

    @override
    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return self._digits.train_dataloader()

    @override
    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        return self._digits.val_dataloader()


def enrol(server: EmbeddedServer, folder: str) -> None:
    """Set the environment as a device's service would have it, and enrol the device, once in its life."""
    os.environ |= {
        "EDGEML_API_BASE": server.api_base,
        "EDGEML_ORG_ID": "clinic-a",
        "EDGEML_DEVICE_ID": "mri-3",
        "EDGEML_TOKEN_STORAGE": "file",  # a device with a desktop would use its keyring
        "XDG_STATE_HOME": folder,
    }
    auth = DeviceAuthClient(base_url=server.url, org_id="clinic-a", device_identifier="mri-3")
    auth.bootstrap_sync(bootstrap_bearer_token=server.create_bootstrap_token(org_id="clinic-a"))


def main() -> None:
    """Open a round, and run the command line of the device that trains in it."""
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        server.register_model(org_id="clinic-a", name="digits", state=DigitsNet().state_dict())
        opened = server.create_round(org_id="clinic-a", model="digits")
        enrol(server, folder)

        cli = LightningCLI(
            DigitsNet,
            DeviceDigits,
            args=["fit", "--config", str(CONFIG), "--trainer.default_root_dir", folder],
        )

        print(cli.trainer.callbacks[0].last_round)
        finished = server.wait_for_round(opened.round_id, timeout_s=30)
        print(f"The round is {finished.state}; the new global model is version {finished.new_version}.")
        kept = (Path(folder) / "config.yaml").read_text(encoding="utf-8")
        print(f"The saved config names the model, and no token: {'token' not in kept}")


if __name__ == "__main__":
    main()
