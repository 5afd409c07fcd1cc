"""Models and updates as named arrays: layouts, deltas, and the files that carry them."""

from edgeml_client.updates.arrays import Array, ArrayKind, Float32Array, State, layout_of
from edgeml_client.updates.delta import compute_state_dict_delta
from edgeml_client.updates.layout import ArraySpec, DType, Layout
from edgeml_client.updates.model_file import GlobalModel, digest_of, encode_model
from edgeml_client.updates.streamed_delta import StreamedDelta
from edgeml_client.updates.update_file import (
    UPDATE_CONTENT_TYPE,
    UpdateFile,
    encode_update,
    max_update_bytes,
    open_update,
    read_update_header,
)
from edgeml_client.updates.vector import DeltaVector

__all__ = [
    "UPDATE_CONTENT_TYPE",
    "Array",
    "ArrayKind",
    "ArraySpec",
    "DType",
    "DeltaVector",
    "Float32Array",
    "GlobalModel",
    "Layout",
    "State",
    "StreamedDelta",
    "UpdateFile",
    "compute_state_dict_delta",
    "digest_of",
    "encode_model",
    "encode_update",
    "layout_of",
    "max_update_bytes",
    "open_update",
    "read_update_header",
]
