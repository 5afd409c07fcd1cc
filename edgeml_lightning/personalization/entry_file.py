"""One entry of the personal store as one file: named arrays, and a description of whose they are.

A safetensors file with the description and a digest of everything in its metadata. Nothing of it is believed
before the digest was checked, except to tell which round an entry is of.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from edgeml_client.errors import InvalidModelError, ModelMismatchError
from edgeml_client.updates.arrays import layout_of, raw_bytes
from edgeml_client.updates.layout import ArraySpec
from edgeml_client.updates.model_file import GlobalModel, in_file_order
from edgeml_client.updates.safetensors_header import Header, build_header, read_header
from edgeml_lightning.errors import PersonalStateError

__all__ = ["EntryDescription", "PersonalKey", "decode_entry", "encode_entry", "read_description"]

_DESCRIPTION: Final = "edgeml.personal"
_DIGEST: Final = "edgeml.personal.sha256"


class PersonalKey(BaseModel):
    """Whose personal state an entry is, of which model, and what trained it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    org_id: Annotated[str, Field(min_length=1)]
    device: Annotated[str, Field(min_length=1)]
    model_id: Annotated[str, Field(min_length=1)]
    strategy: Annotated[str, Field(min_length=1)]


class EntryDescription(BaseModel):
    """What every entry says of itself; subclasses say more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: PersonalKey


_Kind = TypeVar("_Kind", bound=EntryDescription)


def encode_entry(description: EntryDescription, tensors: Mapping[str, Tensor]) -> bytes:
    """Return the file of an entry; :func:`decode_entry` is its inverse.

    Raises:
        PersonalStateError: A tensor is sparse, or of a dtype that no model file holds.
    """
    try:
        specs = in_file_order(layout_of(tensors))
    except ModelMismatchError as exc:
        raise PersonalStateError(f"the personal state cannot be kept: {exc}") from exc
    bodies = [raw_bytes(tensors[spec.name], dtype=spec.dtype) for spec in specs]
    text = description.model_dump_json()
    metadata = {_DESCRIPTION: text, _DIGEST: _digest(text, specs, bodies)}
    return b"".join([build_header(specs, metadata), *bodies])


def decode_entry(data: bytes, kind: type[_Kind], *, key: PersonalKey) -> tuple[_Kind, dict[str, Tensor]]:
    """Return the description and the arrays in a file.

    Raises:
        PersonalStateError: The file is damaged, of another format, or belongs to another organization,
            device, model or strategy.
    """
    header = _header(memoryview(data))
    specs = [entry.spec for entry in header.entries]
    bodies = [memoryview(data)[entry.start : entry.stop] for entry in header.entries]
    if _digest(header.metadata.get(_DESCRIPTION, ""), specs, bodies) != header.metadata.get(_DIGEST):
        raise PersonalStateError("its content does not have the digest that was written with it")
    description = _description(header, kind)
    if description.key != key:
        raise PersonalStateError(f"it belongs to {description.key!r}, not to {key!r}")
    return description, GlobalModel(data).torch_tensors()


def read_description(path: Path, kind: type[_Kind]) -> _Kind:
    """Return what a file says of itself, reading nothing but its header.

    Raises:
        PersonalStateError: It is no entry of this kind.
    """
    with path.open("rb") as stream:
        if stream.seek(0, 2) == 0:
            raise PersonalStateError("it is empty")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
            return _description(_header(data), kind)


def _header(data: memoryview) -> Header:
    try:
        return read_header(data)
    except InvalidModelError as exc:
        raise PersonalStateError(f"it is damaged ({exc})") from exc


def _description(header: Header, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate_json(header.metadata.get(_DESCRIPTION, ""))
    except ValidationError as exc:
        raise PersonalStateError("it is no entry of a personal store, or one of another version") from exc


def _digest(description: str, specs: Sequence[ArraySpec], bodies: Sequence[memoryview]) -> str:
    digest = hashlib.sha256(description.encode())
    for spec, body in zip(specs, bodies, strict=True):
        digest.update(f"\n{spec}\n".encode())
        digest.update(body)
    return digest.hexdigest()
