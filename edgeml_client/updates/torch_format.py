"""The legacy form of a state dict: what ``torch.save`` writes. The only place that calls ``torch.load``.

``torch.load(weights_only=True)`` interprets a pickle, and was broken more than once. So before it sees a
byte, the container is checked (a plain zip, stored and not compressed, no larger than allowed), and the
pickle's instructions are listed, without running them, and compared with what a state dict needs.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from edgeml_client.errors import InvalidModelError, MissingExtraError
from edgeml_client.updates.arrays import State, describe, is_tensor, require_torch

if TYPE_CHECKING:
    import torch

__all__ = ["dumps_state_dict", "loads_state_dict"]

_OLDEST_TORCH: Final = (2, 10)
_MAX_ENTRIES: Final = 200_000
_MAX_PICKLE_BYTES: Final = 16 * 1024 * 1024
_ZIP_MAGIC: Final = b"PK\x03\x04"
_STATE_DICT_GLOBALS: Final = frozenset({
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_tensor_v3",
    "torch._utils _rebuild_parameter",
    "torch.storage UntypedStorage",
    *(f"torch {name}" for name in ("uint16", "uint32", "uint64")),
    *(
        f"torch {name}Storage"
        for name in (
            "Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped",
        )
    ),
})  # fmt: skip
_FORBIDDEN_OPCODES: Final = frozenset(
    {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
)


def dumps_state_dict(arrays: State) -> bytes:
    """Return what ``torch.save`` writes for a state dict of NumPy arrays or torch tensors.

    Raises:
        MissingExtraError: torch is not installed.
        ModelMismatchError: An entry is no array.
    """
    torch = require_torch("writing the torch-saved form of a model")
    stream = io.BytesIO()
    torch.save({name: _compact(name, value, torch) for name, value in arrays.items()}, stream)
    return stream.getvalue()


def loads_state_dict(data: bytes, *, max_bytes: int) -> dict[str, torch.Tensor]:
    """Return the state dict that ``torch.save`` wrote, as dense tensors on the CPU.

    Args:
        data: The file.
        max_bytes: The most bytes that the file, and all tensors of it together, may take.

    Raises:
        InvalidModelError: It is larger, malformed, or a pickle of anything but a flat state dict.
        MissingExtraError: torch is not installed, or older than 2.10.
    """
    torch = _recent_torch()
    container, stored = _checked_container(data, max_bytes=max_bytes)
    try:
        loaded = torch.load(container, map_location="cpu", weights_only=True)
    except Exception as exc:  # on hostile input torch raises many kinds, and documents none
        raise InvalidModelError(
            f"torch cannot read this state dict: {str(exc).splitlines()[0][:200]}"
        ) from exc
    return _checked_state(loaded, stored_bytes=stored, max_bytes=max_bytes)


def _recent_torch() -> Any:  # noqa: ANN401 - the module itself
    torch = require_torch("reading the torch-saved form of a model")
    release = tuple(int(part) for part in str(torch.__version__).split("+")[0].split(".")[:2])
    if release < _OLDEST_TORCH:
        raise MissingExtraError(
            f"reading torch-saved files with torch {torch.__version__}", extra="lightning"
        )
    return torch


def _compact(name: str, value: object, torch: Any) -> object:  # noqa: ANN401 - the module itself
    """Return a tensor whose storage holds exactly its own numbers: ``torch.save`` writes whole storages."""
    describe(name, value)
    if is_tensor(value):
        return value.detach().cpu().contiguous().clone()
    import numpy as np  # noqa: PLC0415 - beside its one use

    return torch.from_numpy(np.array(value, copy=True, order="C"))


def _checked_container(data: bytes, *, max_bytes: int) -> tuple[io.BytesIO, int]:
    """Return the file packed anew, and the bytes of all its storages, after every check without torch.

    It is packed anew so that torch reads the very entries that were checked: two zip readers may
    disagree about a crafted file.
    """
    if len(data) > max_bytes:
        raise InvalidModelError(f"the file has {len(data)} bytes; at most {max_bytes} are accepted")
    if not data.startswith(_ZIP_MAGIC):
        raise InvalidModelError("not a torch-saved state dict: expected the zip form that torch.save writes")
    packed = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(packed, "w") as checked:
            entries = archive.infolist()
            _check_entries(entries, max_bytes=max_bytes)
            for entry in entries:
                content = archive.read(entry)
                if entry.filename.endswith("/data.pkl"):
                    _check_instructions(content)
                checked.writestr(entry.filename, content)
    except InvalidModelError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError, ValueError) as exc:
        raise InvalidModelError(f"not a torch-saved state dict: {exc}") from exc
    packed.seek(0)
    return packed, sum(entry.file_size for entry in entries if "/data/" in entry.filename)


def _check_entries(entries: list[zipfile.ZipInfo], *, max_bytes: int) -> None:
    if len(entries) > _MAX_ENTRIES or len({entry.filename for entry in entries}) != len(entries):
        raise InvalidModelError("not a torch-saved state dict: too many entries, or one twice")
    if any(
        entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size
        for entry in entries
    ):
        raise InvalidModelError("not a torch-saved state dict: its entries must be stored uncompressed")
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE_BYTES:
        raise InvalidModelError("not a torch-saved state dict: it must hold one data.pkl of modest size")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise InvalidModelError(f"the entries declare {total} bytes; at most {max_bytes} are accepted")


def _check_instructions(pickled: bytes) -> None:
    for name, argument in _instructions(pickled):
        if name in _FORBIDDEN_OPCODES or (name == "GLOBAL" and argument not in _STATE_DICT_GLOBALS):
            raise InvalidModelError(
                f"not a state dict of tensors: the file refers to {str(argument or name)[:100]!r}; "
                "save model.state_dict(), not the model or a checkpoint"
            )


def _instructions(pickled: bytes) -> Iterator[tuple[str, object]]:
    for opcode, argument, _position in pickletools.genops(pickled):
        yield opcode.name, argument


def _checked_state(loaded: object, *, stored_bytes: int, max_bytes: int) -> dict[str, torch.Tensor]:
    if not isinstance(loaded, Mapping):
        raise InvalidModelError(f"not a state dict: the file holds a {type(loaded).__name__}")
    state: dict[str, torch.Tensor] = {}
    total, storages = 0, dict[int, int]()
    for name, value in cast("Mapping[object, object]", loaded).items():
        if not isinstance(name, str) or not is_tensor(value):
            raise InvalidModelError(
                f"not a flat state dict: entry {str(name)[:100]!r} is a {type(value).__name__}"
            )
        describe(name, value)
        storage = value.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        total += value.numel() * value.element_size()
        state[name] = value.detach()
    if sum(storages.values()) > stored_bytes or total > max_bytes:
        raise InvalidModelError("the tensors claim more bytes than the file holds, or more than are accepted")
    return {name: value.contiguous() for name, value in state.items()}
