"""Where a device keeps its personal models between rounds and over restarts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from edgeml_client.durable import write_durably
from edgeml_client.errors import ConfigurationError
from edgeml_client.updates.paths import path_segment
from edgeml_lightning.errors import PersonalStateError
from edgeml_lightning.personalization.personal_file import (
    PersonalKey,
    decode_personal_state,
    encode_personal_state,
)
from edgeml_lightning.personalization.personal_state import PersonalState

__all__ = ["PersonalStore"]

_SUFFIX: Final = ".safetensors"


class PersonalStore:
    """The last few personal states of each model, one file each, on the local disk.

    A state is written to a temporary file, forced to disk, and renamed: whoever reads finds a whole entry or
    the one before it. Entries that cannot be read, or that belong to someone else, are moved to the folder
    ``refused`` beside them and an error says so; they are never loaded and never deleted.

    Args:
        root: The folder; created when first written to.
        num_kept: How many states of a model to keep, at least 2: the last, and the one before it, from which
            an interrupted round starts again.

    Raises:
        ConfigurationError: ``num_kept`` is less than 2.
    """

    def __init__(self, root: str | Path, *, num_kept: int = 2) -> None:
        if num_kept < 2:  # noqa: PLR2004 - the last one and the one before it
            raise ConfigurationError(f"num_kept must be at least 2, not {num_kept}")
        self.root = Path(root)
        self.num_kept = num_kept

    def save(self, key: PersonalKey, state: PersonalState) -> Path:
        """Write ``state`` as the newest entry of ``key`` and return its file.

        If the newest entry is of the same round, it is replaced, so that the state before the round stays.
        """
        folder = self._folder(key)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self._revision_for(key, state.round_id):08d}{_SUFFIX}"
        write_durably(target, encode_personal_state(key, state))
        for old in self._entries(folder)[: -self.num_kept]:
            old.unlink(missing_ok=True)
        return target

    def find(
        self, key: PersonalKey, *, expected: Mapping[str, Tensor], before_round: str | None = None
    ) -> PersonalState | None:
        """Return the newest state of ``key``, or ``None`` if there is none yet.

        Args:
            key: Whose state of which model.
            expected: The arrays the state must have, by name; their values do not matter.
            before_round: Pass over states that this round wrote: a round that starts again starts
                from what was there before it.

        Raises:
            PersonalStateError: The newest entry is damaged, foreign, or of another architecture. It was
                set aside; the next call finds the one before it.
        """
        for path in reversed(self._entries(self._folder(key))):
            try:
                state = decode_personal_state(path.read_bytes(), key=key)
                state.require_arrays(expected)
            except PersonalStateError as exc:
                raise _set_aside(path, reason=str(exc)) from exc
            if state.round_id != before_round:
                return state
        return None

    def _revision_for(self, key: PersonalKey, round_id: str) -> int:
        entries = self._entries(self._folder(key))
        if not entries:
            return 1
        newest = entries[-1]
        try:
            is_same_round = decode_personal_state(newest.read_bytes(), key=key).round_id == round_id
        except PersonalStateError:
            is_same_round = False
        return int(newest.stem) + (0 if is_same_round else 1)

    def _folder(self, key: PersonalKey) -> Path:
        names = (key.org_id, key.device, key.model_id, key.strategy)
        return self.root.joinpath(*map(path_segment, names))

    @staticmethod
    def _entries(folder: Path) -> list[Path]:
        return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())


def _set_aside(path: Path, *, reason: str) -> PersonalStateError:
    aside = path.parent / "refused"
    aside.mkdir(exist_ok=True)
    target, number = aside / path.name, 1
    while target.exists():
        number += 1
        target = aside / f"{path.stem}-{number}{_SUFFIX}"
    path.rename(target)
    return PersonalStateError(
        f"the personal state {path.name} cannot be used: {reason}. It is kept as {target}; start again to "
        "go on from the state before it, or from the global model if there is none"
    )
