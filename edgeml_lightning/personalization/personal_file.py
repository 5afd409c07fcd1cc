"""A personal state as an entry of the store."""

from __future__ import annotations

from typing import Final, Literal

from edgeml_lightning.naming import under_prefix, with_prefix
from edgeml_lightning.personalization.entry_file import (
    EntryDescription,
    PersonalKey,
    decode_entry,
    encode_entry,
)
from edgeml_lightning.personalization.optimizer_state import OptimizerState
from edgeml_lightning.personalization.personal_state import PersonalState

__all__ = ["PersonalDescription", "decode_personal_state", "encode_personal_state"]

_ARRAY: Final = "array/"
_OPTIMIZER: Final = "optimizer/"


class PersonalDescription(EntryDescription):
    """What a personal state says of itself: whose it is, and what it was trained against."""

    format: Literal["edgeml-personal/1"] = "edgeml-personal/1"
    round_id: str
    base_version: str
    base_digest: str
    optimizer_numbers: dict[str, float]
    optimizer_kinds: dict[str, str]


def encode_personal_state(key: PersonalKey, state: PersonalState) -> bytes:
    """Return the file that holds ``state``; :func:`decode_personal_state` is its inverse.

    Raises:
        PersonalStateError: An array is sparse, or of a dtype that no model file holds.
    """
    description = PersonalDescription(
        key=key,
        round_id=state.round_id,
        base_version=state.base_version,
        base_digest=state.base_digest,
        optimizer_numbers=dict(state.optimizer.numbers),
        optimizer_kinds=dict(state.optimizer.kinds),
    )
    memory = with_prefix(state.optimizer.tensors, _OPTIMIZER)
    return encode_entry(description, with_prefix(state.arrays, _ARRAY) | memory)


def decode_personal_state(data: bytes, *, key: PersonalKey) -> PersonalState:
    """Return the state in a file.

    Raises:
        PersonalStateError: The file is damaged, of another format, or belongs to another organization,
            device, model or strategy.
    """
    description, tensors = decode_entry(data, PersonalDescription, key=key)
    return PersonalState(
        model_id=key.model_id,
        strategy=key.strategy,
        round_id=description.round_id,
        base_version=description.base_version,
        base_digest=description.base_digest,
        arrays=under_prefix(tensors, _ARRAY),
        optimizer=OptimizerState(
            under_prefix(tensors, _OPTIMIZER), description.optimizer_numbers, description.optimizer_kinds
        ),
    )
