"""Finding a model by name and pulling a version of it."""

from __future__ import annotations

from typing import Final, Literal

from edgeml_client._transport.http import Download, HttpTransport
from edgeml_client._transport.paths import endpoint
from edgeml_client._transport.sinks import ReceivedMemory, Sink
from edgeml_client.errors import InvalidResponseError
from edgeml_client.resources.capabilities import Capabilities
from edgeml_client.schemas import Capability, ModelPage, ModelVersion
from edgeml_client.updates.model_file import GlobalModel, encode_model
from edgeml_client.updates.torch_format import loads_state_dict

__all__ = ["MAX_MODEL_BYTES", "ModelDownloads", "ModelFormat"]

ModelFormat = Literal["pytorch", "safetensors"]
"""How a model travels: the torch-saved form that every control plane knows, or safetensors."""

MAX_MODEL_BYTES: Final = 64 * 1024**3
"""A larger answer is no model that this client could hold."""


class ModelDownloads:
    """The calls that read models.

    Args:
        transport: Sends the requests.
        org_id: Whose models are looked up by name.
        capabilities: Decides in which form a model is asked for.
    """

    def __init__(self, transport: HttpTransport, *, org_id: str, capabilities: Capabilities) -> None:
        self._transport = transport
        self._org_id = org_id
        self._capabilities = capabilities
        self._ids: dict[str, str] = {}

    def resolve_id(self, model: str) -> str:
        """Return the id of the model called ``model``; a text that is no name is taken for an id."""
        if model not in self._ids:
            # A control plane that does not know the filter answers all models, as it did before.
            asked = {"org_id": self._org_id, "name": model}
            page = self._transport.call("GET", "/models", ModelPage, params=asked)
            self._ids |= {entry.name: entry.id for entry in page.models}
        return self._ids.get(model, model)

    def latest_version(self, model_id: str) -> str:
        """Return the version that new rounds start from."""
        path = endpoint("/models/{}/versions/latest", model_id)
        return self._transport.call("GET", path, ModelVersion).version

    def pull(self, model_id: str, version: str, *, model_format: ModelFormat) -> bytes:
        """Return the file of a version in the form that is asked for."""
        return self._download(model_id, version, model_format).data

    def pull_global(
        self, model_id: str, version: str, *, base_digest: str | None = None
    ) -> tuple[GlobalModel, int]:
        """Return a version as named arrays, and the bytes it took on the wire.

        Args:
            model_id: The model.
            version: Its version.
            base_digest: What the control plane says the safetensors file has as its digest.

        Raises:
            InvalidResponseError: What came is no model, or another one than ``base_digest`` says.
            MissingExtraError: The control plane only has the torch-saved form, and torch is not installed.
        """
        if Capability.MODELS_SAFETENSORS not in self._capabilities:
            legacy = self._download(model_id, version, "pytorch")
            state = loads_state_dict(legacy.data, max_bytes=4 * len(legacy.data))
            return GlobalModel(encode_model(state), version=version), legacy.num_bytes
        memory = ReceivedMemory()
        received = self._download(model_id, version, "safetensors", into=memory)
        try:
            model = GlobalModel(memory.view(), version=version, digest=received.digest)
            model.require_digest(base_digest)
        except ValueError as exc:
            raise InvalidResponseError(f"version {version!r} of model {model_id!r}: {exc}") from exc
        return model, received.num_bytes

    def _download(
        self, model_id: str, version: str, model_format: ModelFormat, *, into: Sink | None = None
    ) -> Download:
        path = endpoint("/models/{}/versions/{}/download", model_id, version)
        return self._transport.download(
            path, params={"format": model_format}, max_bytes=MAX_MODEL_BYTES, into=into
        )
