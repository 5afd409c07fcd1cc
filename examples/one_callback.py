"""One device, one round: a callback makes an ordinary Lightning fit a federated one."""

from __future__ import annotations

import tempfile
from pathlib import Path

import lightning as L
from digits import DigitsNet, digits_of_devices

from edgeml_client import DeviceAuthClient, FederatedClient
from edgeml_lightning import Ditto, FederatedCallback
from edgeml_server import EmbeddedServer


def main() -> None:
    """Play both sides: the operator, who opens a round, and the device, which trains in it."""
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        # The operator registers a model, opens a round, and issues a token that enrols one device.
        server.register_model(org_id="clinic-a", name="digits", state=DigitsNet().state_dict())
        opened = server.create_round(org_id="clinic-a", model="digits")
        token = server.create_bootstrap_token(org_id="clinic-a")

        # The device enrols, once in its life, and connects.
        auth = DeviceAuthClient(
            base_url=server.url, org_id="clinic-a", device_identifier="mri-3", token_storage="memory"
        )
        auth.bootstrap_sync(bootstrap_bearer_token=token)
        with FederatedClient(
            auth_token_provider=auth.get_access_token_sync,
            org_id="clinic-a",
            api_base=server.api_base,
            device_identifier="mri-3",
            state_dir=Path(folder),
        ) as client:
            client.register()

            # The one callback.
            federated = FederatedCallback(client, model="digits", strategy=Ditto(lambda_ditto=0.1))
            trainer = L.Trainer(
                max_epochs=3,
                callbacks=[federated],
                num_sanity_val_steps=-1,  # measures the global model as it was received
                accelerator="cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(DigitsNet(), datamodule=digits_of_devices(10, seed=0)[0])

        print(federated.last_round)
        finished = server.wait_for_round(opened.round_id, timeout_s=30)
        print(f"The round is {finished.state}; the new global model is version {finished.new_version}.")


if __name__ == "__main__":
    main()
