"""A filter of your own, between training and upload: only arrays that changed enough leave the device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lightning as L
from digits import DigitsNet, digits_of_devices
from typing_extensions import override

from edgeml_client import DeltaFilter, DeviceAuthClient, FederatedClient, FilterRegistry
from edgeml_client.filters import FilterEffects, Sensitivity, Sparsity
from edgeml_lightning import FederatedCallback
from edgeml_server import EmbeddedServer

ORG = "clinic-a"


class SilenceQuietArrays(DeltaFilter):
    """Sets an array's change to zero where its norm stays below ``min_norm``."""

    # It never makes an update longer, and only ever adds zeros, which a coded update does not send.
    effects = FilterEffects(sensitivity=Sensitivity.KEEPS, sparsity=Sparsity.ADDS, bits_per_number=None)

    @override
    def process(self, delta: dict[str, Any], config: Any = None) -> dict[str, Any]:
        min_norm = float((config or {}).get("min_norm", 0.0))
        return {name: change if _norm(change) >= min_norm else change * 0 for name, change in delta.items()}


def _norm(array: Any) -> float:  # noqa: ANN401 - a torch tensor or a NumPy array
    return float((array**2).sum() ** 0.5)


def main() -> None:
    """Register the filter under a name, as a round's configuration would ask for it, and train one round."""
    FilterRegistry.register("silence_quiet_arrays", SilenceQuietArrays)
    L.seed_everything(0)
    before = DigitsNet().state_dict()
    with EmbeddedServer() as server, tempfile.TemporaryDirectory() as folder:
        server.register_model(org_id=ORG, name="digits", state=before)
        opened = server.create_round(org_id=ORG, model="digits")
        auth = DeviceAuthClient(
            base_url=server.url, org_id=ORG, device_identifier="mri-3", token_storage="memory"
        )
        auth.bootstrap_sync(bootstrap_bearer_token=server.create_bootstrap_token(org_id=ORG))
        with FederatedClient(
            auth_token_provider=auth.get_access_token_sync,
            org_id=ORG,
            api_base=server.api_base,
            device_identifier="mri-3",
            state_dir=Path(folder),
        ) as client:
            client.register()
            federated = FederatedCallback(
                client, model="digits", filters=[{"type": "silence_quiet_arrays", "min_norm": 0.1}]
            )
            trainer = L.Trainer(
                max_epochs=1,
                callbacks=[federated],
                accelerator="cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(DigitsNet(), datamodule=digits_of_devices(10, seed=0)[0])
            ended = server.wait_for_round(opened.round_id, timeout_s=30)
            after = client.pull_global_model("digits", ended.new_version).torch_tensors()
    for name, array in after.items():
        norm = float((array - before[name]).norm())
        print(f"{name:18s} {f'changed by {norm:.3f}' if norm else 'unchanged'}")


if __name__ == "__main__":
    main()
