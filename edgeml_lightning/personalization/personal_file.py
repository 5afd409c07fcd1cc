"""One entry of the personal store as one file: safetensors, its description in the metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from edgeml_lightning.errors import PersonalStateError
from edgeml_lightning.personalization.optimizer_state import OptimizerState
from edgeml_lightning.personalization.personal_state import PersonalState

__all__ = ["PersonalKey", "decode_personal_state", "encode_personal_state"]

_METADATA_KEY: Final = "edgeml.personal"
_ARRAY: Final = "array/"
_OPTIMIZER: Final = "optimizer/"
_MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
_LENGTH_BYTES: Final = 8


class PersonalKey(BaseModel):
    """Whose personal state an entry is, of which model, and what trained it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    org_id: Annotated[str, Field(min_length=1)]
    device: Annotated[str, Field(min_length=1)]
    model_id: Annotated[str, Field(min_length=1)]
    strategy: Annotated[str, Field(min_length=1)]


class _Description(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["edgeml-personal/1"] = "edgeml-personal/1"
    key: PersonalKey
    round_id: str
    base_version: str
    base_digest: str
    optimizer_numbers: dict[str, float]
    content_digest: str


def encode_personal_state(key: PersonalKey, state: PersonalState) -> bytes:
    """Return the file that holds ``state``; :func:`decode_personal_state` is its inverse."""
    tensors = {f"{_ARRAY}{name}": _flat(tensor) for name, tensor in state.arrays.items()}
    tensors |= {f"{_OPTIMIZER}{name}": _flat(tensor) for name, tensor in state.optimizer.tensors.items()}
    description = _Description(
        key=key,
        round_id=state.round_id,
        base_version=state.base_version,
        base_digest=state.base_digest,
        optimizer_numbers=dict(state.optimizer.numbers),
        content_digest=_content_digest(tensors),
    )
    return save(tensors, metadata={_METADATA_KEY: description.model_dump_json()})


def decode_personal_state(data: bytes, *, key: PersonalKey) -> PersonalState:
    """Return the state in a file.

    Raises:
        PersonalStateError: The file is damaged, of another format, or belongs to another organization,
            device, model or strategy.
    """
    description = _read_description(data)
    if description.key != key:
        raise PersonalStateError(f"it belongs to {description.key!r}, not to {key!r}")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError) as exc:
        raise PersonalStateError(f"its arrays cannot be read ({exc})") from exc
    if _content_digest(tensors) != description.content_digest:
        raise PersonalStateError("its arrays do not have the digest that was written with them")
    return PersonalState(
        model_id=key.model_id,
        strategy=key.strategy,
        round_id=description.round_id,
        base_version=description.base_version,
        base_digest=description.base_digest,
        arrays=_under(tensors, _ARRAY),
        optimizer=OptimizerState(_under(tensors, _OPTIMIZER), description.optimizer_numbers),
    )


def _read_description(data: bytes) -> _Description:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or length > min(_MAX_HEADER_BYTES, len(data) - _LENGTH_BYTES):
        raise PersonalStateError("it is cut off")
    try:
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        return _Description.model_validate_json(header["__metadata__"][_METADATA_KEY])
    except (ValueError, KeyError, TypeError, ValidationError) as exc:
        raise PersonalStateError("it is no entry of a personal store") from exc


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _content_digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(save({"": tensor}))
    return digest.hexdigest()
