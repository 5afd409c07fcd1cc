"""What a stored file is: a model to train, or a file only to be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeml_client.errors import InvalidModelError, MissingExtraError, ModelMismatchError
from edgeml_client.updates import GlobalModel, Layout, encode_model
from edgeml_client.updates.mapped_file import map_file
from edgeml_client.updates.torch_format import dumps_state_dict, loads_state_dict
from edgeml_server.errors import InvalidContentError, UnsupportedFormatError
from edgeml_server.registry.rules import looks_like, opaque_format

if TYPE_CHECKING:
    from edgeml_server.blobs import BlobStore, StoredBlob

__all__ = ["Contents", "layout_of_file", "to_torch_saved", "understand"]

_HEAD_BYTES = 16
_NO_TORCH = (
    "this control plane has no torch, which the torch-saved form needs: use safetensors, "
    "or install edgeml-lightning[lightning] on the server"
)


@dataclass(frozen=True)
class Contents:
    """A file, understood.

    Attributes:
        format: ``safetensors`` for what can be trained; otherwise the format's own name.
        layout: The arrays of what can be trained.
    """

    format: str
    file: StoredBlob
    layout: Layout | None = None


def understand(store: BlobStore, blob: StoredBlob, *, file_name: str, max_torch_bytes: int) -> Contents:
    """Return what the stored file is; a torch-saved state dict becomes a safetensors file.

    Raises:
        InvalidContentError: It claims to be a model, and is none.
        UnsupportedFormatError: It is torch-saved, and there is no torch here.
    """
    with store.open(blob.digest) as file:
        claimed = looks_like(file.read(_HEAD_BYTES), file_name)
    if claimed == "pytorch":
        blob = _from_torch_saved(store, blob, max_bytes=max_torch_bytes)
    elif claimed is None:
        return Contents(opaque_format(file_name), blob)
    return Contents("safetensors", blob, layout_of_file(store, blob.digest))


def layout_of_file(store: BlobStore, digest: str) -> Layout:
    """Return the layout of a stored safetensors file, reading its header only.

    Raises:
        InvalidContentError: It is malformed, truncated or empty of arrays.
    """
    try:
        layout = Layout.from_safetensors_header(map_file(store.path(digest)))
    except InvalidModelError as exc:
        raise InvalidContentError(f"the file is not a good safetensors model: {exc}") from exc
    if not len(layout):
        raise InvalidContentError("the model has no arrays; save model.state_dict()")
    return layout


def to_torch_saved(store: BlobStore, digest: str) -> StoredBlob:
    """Store the torch-saved form of a safetensors model, for clients that ask for ``format=pytorch``.

    Raises:
        UnsupportedFormatError: There is no torch here.
    """
    with store.open(digest) as file:
        model = GlobalModel(file.read())
    try:
        return store.put([dumps_state_dict(model.torch_tensors())])
    except MissingExtraError as exc:
        raise UnsupportedFormatError(_NO_TORCH) from exc


def _from_torch_saved(store: BlobStore, blob: StoredBlob, *, max_bytes: int) -> StoredBlob:
    if blob.size_bytes > max_bytes:
        raise InvalidContentError(
            f"a torch-saved file may have {max_bytes} bytes, this one has {blob.size_bytes}; use safetensors"
        )
    with store.open(blob.digest) as file:
        data = file.read()
    try:
        return store.put([encode_model(loads_state_dict(data, max_bytes=max_bytes))])
    except MissingExtraError as exc:
        raise UnsupportedFormatError(_NO_TORCH) from exc
    except (InvalidModelError, ModelMismatchError) as exc:
        raise InvalidContentError(str(exc)) from exc
