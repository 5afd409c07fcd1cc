"""Where a device keeps its personal models between rounds and over restarts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from torch import Tensor

from edgeml_client.durable import PART_SUFFIX, write_durably
from edgeml_client.errors import ConfigurationError
from edgeml_client.updates.paths import path_segment
from edgeml_lightning.errors import PersonalStateError, PersonalStoreError, PersonalStoreFullError
from edgeml_lightning.personalization.entry_file import PersonalKey, read_description
from edgeml_lightning.personalization.personal_file import (
    PersonalDescription,
    decode_personal_state,
    encode_personal_state,
)
from edgeml_lightning.personalization.personal_state import PersonalState
from edgeml_lightning.personalization.room import files_under, to_remove
from edgeml_lightning.personalization.round_marks import RoundMarks, decode_marks, encode_marks
from edgeml_lightning.personalization.set_aside import SET_ASIDE, read_or_set_aside, remove

__all__ = ["PersonalStore"]

_log = logging.getLogger(__name__)

_SUFFIX: Final = ".safetensors"
_WRITE_TIMEOUT_S: Final = 60.0

_BEFORE_IT: Final = "go on from the state before it, or from the global model if there is none"
_WITHOUT_MARKS: Final = "go on with fresh random numbers"


class PersonalStore:
    """The last few personal states of each model, one file each, on the local disk.

    A state is written to a temporary file, forced to disk, and renamed: whoever reads finds a whole entry or
    the one before it. Entries that cannot be read, or that belong to someone else, are moved to the folder
    ``refused`` beside them and an error says so; they are never loaded and never deleted.

    Beside the states lie the marks of the latest round: where the random streams stood when it began and when
    it ended, so that a round that was cut off can be run again exactly.

    Args:
        root: The folder; created when first written to.
        num_kept: How many states of a model to keep, at least 2: the last, and the one before it, from which
            an interrupted round starts again.
        max_bytes: How much one device's entries may take together; ``None`` for any amount. To make room,
            entries of its *other* models (or strategies) are removed, the oldest first, and a warning names
            each. The model that is trained is never removed: if there still is no room, an error says so.

    Raises:
        ConfigurationError: ``num_kept`` is less than 2, or ``max_bytes`` less than 1.
    """

    def __init__(self, root: str | Path, *, num_kept: int = 2, max_bytes: int | None = None) -> None:
        if num_kept < 2:  # noqa: PLR2004 - the last one and the one before it
            raise ConfigurationError(f"num_kept must be at least 2, not {num_kept}")
        if max_bytes is not None and max_bytes < 1:
            raise ConfigurationError(f"max_bytes must be at least 1, not {max_bytes}")
        self.root = Path(root)
        self.num_kept = num_kept
        self.max_bytes = max_bytes

    # States.

    def save(self, key: PersonalKey, state: PersonalState) -> Path:
        """Write ``state`` as the newest entry of ``key`` and return its file.

        If the newest entry is of the same round, it is replaced, so that the state before the round stays.

        Raises:
            PersonalStoreFullError: It does not fit into ``max_bytes``; nothing was written or removed.
            PersonalStoreError: The folder cannot be written, the disk is full, or another process holds the
                folder for more than a minute.
            PersonalStateError: An array is of a kind that cannot be kept.
        """
        folder, data = self._folder(key), encode_personal_state(key, state)
        with self._held(key):
            entries = self._entries(folder)
            target = folder / f"{_revision_for(entries, state.round_id):08d}{_SUFFIX}"
            outdated = [path for path in entries if path != target][: 1 - self.num_kept]
            self._make_room(key, num_bytes=len(data), replaced=(target, *outdated))
            self._write(target, data)
            for old in outdated:
                remove(old, otherwise=_BEFORE_IT)
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

        def decode(data: bytes) -> PersonalState:
            state = decode_personal_state(data, key=key)
            state.require_arrays(expected)
            return state

        folder = self._folder(key)
        if not folder.is_dir():
            return None
        with self._held(key):
            for path in reversed(self._entries(folder)):
                state = read_or_set_aside(path, decode, otherwise=_BEFORE_IT)
                if state.round_id != before_round:
                    return state
        return None

    def check_room(self, key: PersonalKey, *, num_bytes: int) -> None:
        """Check that one more state fits, so that nobody trains for an error.

        Args:
            key: Whose state of which model.
            num_bytes: What it takes at least. If there is one already, it is taken to be as large as that:
                what optimizers will remember is not known before they step.

        Raises:
            PersonalStoreFullError: It does not.
        """
        entries = self._entries(self._folder(key))
        newest = max(map(_size_of, entries[-1:]), default=0)
        outdated = entries[: 1 - self.num_kept]
        self._room_for(key, num_bytes=max(num_bytes, newest), replaced=tuple(outdated))

    def take_back(self, key: PersonalKey, *, was_refused: Callable[[str], bool]) -> None:
        """Remove the newest states, as long as they are of rounds whose update was refused for good.

        What travels beside the model must move on the device as it does in the global model: not at all.

        Args:
            key: Whose states of which model.
            was_refused: Tells it of a round.
        """
        if not self._folder(key).is_dir():
            return
        with self._held(key):
            for path in reversed(self._entries(self._folder(key))):
                round_id = _find_round(path)
                if round_id is None or not was_refused(round_id):
                    return
                path.unlink()

    # Marks.

    def save_marks(self, key: PersonalKey, marks: RoundMarks, *, rank: int = 0) -> None:
        """Write where the latest round began, and where it ended, in place of those of the one before.

        Args:
            key: Whose round of which model.
            marks: The two.
            rank: The process, where several train together: each has streams of its own.

        Raises:
            PersonalStoreError: As in :meth:`save`.
        """
        with self._held(key):
            self._write(self._marks_path(key, rank), encode_marks(key, marks))

    def find_marks(self, key: PersonalKey, *, rank: int = 0) -> RoundMarks | None:
        """Return the marks of the latest round, or ``None`` if there are none.

        Raises:
            PersonalStateError: They are damaged or foreign. They were set aside; the next call finds none.
        """
        path = self._marks_path(key, rank)
        if not path.exists():
            return None
        return read_or_set_aside(path, lambda data: decode_marks(data, key=key), otherwise=_WITHOUT_MARKS)

    # Files.

    def _make_room(self, key: PersonalKey, *, num_bytes: int, replaced: tuple[Path, ...]) -> None:
        for path in self._room_for(key, num_bytes=num_bytes, replaced=replaced):
            _log.warning(
                "removed %s, which is of another model: the entries of this device may take %s bytes",
                path,
                self.max_bytes,
            )
            path.unlink(missing_ok=True)

    def _room_for(self, key: PersonalKey, *, num_bytes: int, replaced: tuple[Path, ...]) -> list[Path]:
        if self.max_bytes is None:
            return []
        folder = self._folder(key)
        device = folder.parent.parent
        there = [file for file in files_under(device) if file.path not in replaced]
        removable = {
            file.path
            for file in there
            if not file.path.is_relative_to(folder)
            and file.path.suffix == _SUFFIX
            and file.path.parent.name != SET_ASIDE
        }
        gone, needed = to_remove(there, new_bytes=num_bytes, max_bytes=self.max_bytes, removable=removable)
        if needed > self.max_bytes:
            raise PersonalStoreFullError(folder=device, needed_bytes=needed, max_bytes=self.max_bytes)
        return [file.path for file in gone]

    @contextmanager
    def _held(self, key: PersonalKey) -> Generator[None]:
        """Hold what a device keeps, across threads and processes."""
        device = self._folder(key).parent.parent
        try:
            device.mkdir(parents=True, exist_ok=True)
            with FileLock(device / ".lock", timeout=_WRITE_TIMEOUT_S):
                yield
        except Timeout as exc:
            raise PersonalStoreError(
                f"another process or thread is using {device}; one device runs once at a time"
            ) from exc
        except OSError as exc:
            raise PersonalStoreError(
                f"what is personal cannot be kept in {device}: {exc.strerror or exc}; make room, or pass a "
                "PersonalStore in a writable folder"
            ) from exc

    @staticmethod
    def _write(target: Path, data: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"*{PART_SUFFIX}"):
            leftover.unlink(missing_ok=True)
        write_durably(target, data)

    def _folder(self, key: PersonalKey) -> Path:
        names = (key.org_id, key.device, key.model_id, key.strategy)
        return self.root.joinpath(*map(path_segment, names))

    def _marks_path(self, key: PersonalKey, rank: int) -> Path:
        return self._folder(key) / f"rank-{rank}" / f"round{_SUFFIX}"

    @staticmethod
    def _entries(folder: Path) -> list[Path]:
        return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdigit())


def _revision_for(entries: list[Path], round_id: str) -> int:
    if not entries:
        return 1
    newest = entries[-1]
    return int(newest.stem) + (0 if _find_round(newest) == round_id else 1)


def _find_round(path: Path) -> str | None:
    """Return the round of which an entry is, or ``None`` if it cannot be read."""
    try:
        return read_description(path, PersonalDescription).round_id
    except (PersonalStateError, OSError):
        return None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
