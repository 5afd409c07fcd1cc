"""The legacy form of an update: a base64 torch-saved state dict, made into an update file."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from edgeml_client.errors import InvalidModelError, MissingExtraError, ModelMismatchError, NonFiniteError
from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates.array_names import is_under
from edgeml_client.updates.arrays import layout_of
from edgeml_client.updates.delta import compute_state_dict_delta
from edgeml_client.updates.layout import Layout
from edgeml_client.updates.model_file import GlobalModel
from edgeml_client.updates.torch_format import loads_state_dict
from edgeml_client.updates.update_file import encode_update
from edgeml_server.errors import InvalidContentError, UnsupportedFormatError
from edgeml_server.rounds.acceptance import check_claims

if TYPE_CHECKING:
    import torch

__all__ = ["decode_weights", "max_torch_bytes", "to_update_file"]

_WIDEST_ITEM_BYTES: Final = 8
_BYTES_PER_ENTRY: Final = 1024


def max_torch_bytes(layout: Layout) -> int:
    """Return how large the torch-saved form of this model may be: float64, and a zip entry for each array."""
    names = sum(_BYTES_PER_ENTRY + 4 * len(spec.name) for spec in layout)
    return _WIDEST_ITEM_BYTES * layout.size + names + 65_536


def decode_weights(weights_data: str, *, max_bytes: int) -> bytes:
    """Return the bytes behind base64 text.

    Raises:
        InvalidContentError: It is not base64, or longer than a state dict of this model can be.
    """
    if len(weights_data) * 3 // 4 > max_bytes + 2:
        raise InvalidContentError(
            f"weights_data holds about {len(weights_data) * 3 // 4} bytes; the state dict of this model has "
            f"at most {max_bytes}: send the arrays of the registered model only"
        )
    try:
        return base64.b64decode(weights_data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidContentError(f"weights_data is not base64: {exc}; was it cut short?") from exc


def to_update_file(
    saved: bytes,
    update_format: Literal["weights", "delta"],
    base_file: Path,
    header: UpdateHeader,
    *,
    head_layers: tuple[str, ...] = (),
) -> bytes:
    """Return the update file that a legacy upload means.

    A ``delta`` is taken as it is; ``weights`` become the difference to the base. Integer arrays are left
    out, as they are never averaged. Arrays under ``head_layers`` may be absent: they are private.

    Args:
        saved: The torch-saved state dict.
        update_format: Whether it holds a delta or the trained weights.
        base_file: The base version's safetensors file.
        header: The envelope of the result.
        head_layers: The private layers of the round.

    Raises:
        InvalidContentError: It is no state dict of this model, or not finite.
        UnsupportedFormatError: There is no torch on this control plane.
    """
    check_claims(sample_count=header.sample_count, metrics=header.metrics)
    base = GlobalModel(base_file.read_bytes())
    state = _read(saved, max_bytes=max_torch_bytes(base.layout))
    private = tuple(
        spec.name
        for spec in base.layout.floating
        if spec.name not in state and is_under(spec.name, head_layers)
    )
    try:
        _require_floating_arrays(base.layout, state, private)
        shared = {spec.name: state[spec.name] for spec in base.layout.floating if spec.name not in private}
        delta = _minus_base(shared, base) if update_format == "weights" else shared
        return encode_update(header.model_copy(update={"private": private}), delta)
    except (ModelMismatchError, NonFiniteError) as exc:
        raise InvalidContentError(str(exc)) from exc


def _read(saved: bytes, *, max_bytes: int) -> dict[str, torch.Tensor]:
    try:
        return loads_state_dict(saved, max_bytes=max_bytes)
    except MissingExtraError as exc:
        raise UnsupportedFormatError(
            f"this control plane cannot read torch-saved updates ({exc}); send the binary form to "
            "POST /training/rounds/{round_id}/updates"
        ) from exc
    except InvalidModelError as exc:
        raise InvalidContentError(f"weights_data: {exc}") from exc


def _require_floating_arrays(layout: Layout, state: Mapping[str, Any], private: tuple[str, ...]) -> None:
    """Return if names and shapes fit; filters of older clients change the dtypes of what they touch."""
    optional = {spec.name for spec in layout if not spec.is_averaged and spec.name not in state}
    layout.without({*private, *optional}).require_same_arrays(
        layout_of(state), summary="the state dict does not fit the model:", match_dtypes=False
    )


def _minus_base(shared: Mapping[str, Any], base: GlobalModel) -> dict[str, Any]:
    return compute_state_dict_delta({name: base.array(name) for name in shared}, shared)
