"""The header of a safetensors file, read with bounds and written the same way every time.

The format (https://huggingface.co/docs/safetensors/index#format): eight bytes with the header's
length, little-endian; a JSON object that maps each name to dtype, shape and byte offsets; the arrays,
one after the other. Reading touches nothing but the header, so a hostile file costs no memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from edgeml_client.errors import InvalidModelError
from edgeml_client.updates.layout import ITEM_BYTES, ArraySpec, DType

__all__ = ["MAX_ARRAYS", "MAX_HEADER_BYTES", "Header", "HeaderEntry", "build_header", "read_header"]

MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
MAX_ARRAYS: Final = 100_000
_MAX_DIMENSIONS: Final = 32
_MAX_EXTENT: Final = 2**48
_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8
_ENTRY_KEYS: Final = frozenset({"dtype", "shape", "data_offsets"})


@dataclass(frozen=True, slots=True)
class HeaderEntry:
    """Where one array lies: bytes ``start`` to ``stop`` of the whole file."""

    spec: ArraySpec
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a file says.

    Attributes:
        entries: The arrays in the order of their bytes.
        metadata: The strings under ``__metadata__``.
    """

    entries: tuple[HeaderEntry, ...]
    metadata: Mapping[str, str]


def build_header(specs: tuple[ArraySpec, ...], metadata: Mapping[str, str]) -> bytes:
    """Return the length and the header of a file whose arrays follow in the order of ``specs``."""
    described: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    offset = 0
    for spec in specs:
        end = offset + spec.num_bytes
        described[spec.name] = {"dtype": spec.dtype, "shape": list(spec.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def read_header(data: memoryview, *, max_header_bytes: int = MAX_HEADER_BYTES) -> Header:
    """Return what the header of ``data``, a whole safetensors file, says about it.

    The arrays must lie one after the other, without gaps or overlaps, and end where the file ends.

    Raises:
        InvalidModelError: Anything is not as the format says, or larger than the bounds of this module.
    """
    described, data_start = _read_json(data, max_header_bytes=max_header_bytes)
    metadata = _metadata(described.pop("__metadata__", {}))
    if len(described) > MAX_ARRAYS:
        raise InvalidModelError(f"the file lists {len(described)} arrays; at most {MAX_ARRAYS} are read")
    entries = sorted((_entry(name, value, data_start) for name, value in described.items()), key=_by_offset)
    expected = data_start
    for entry in entries:
        if entry.start != expected:
            raise InvalidModelError(f"array {entry.spec.name!r} does not begin where the one before it ends")
        expected = entry.stop
    if expected != len(data):
        raise InvalidModelError(f"the header describes {expected} bytes, the file has {len(data)}")
    return Header(entries=tuple(entries), metadata=metadata)


def _by_offset(entry: HeaderEntry) -> tuple[int, int]:
    return entry.start, entry.stop


def _read_json(data: memoryview, *, max_header_bytes: int) -> tuple[dict[str, Any], int]:
    if len(data) < _LENGTH_BYTES:
        raise InvalidModelError(f"a safetensors file has at least 8 bytes, this one {len(data)}")
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > max_header_bytes:
        raise InvalidModelError(
            f"not a safetensors file: its header would take {length} bytes, "
            f"at most {max_header_bytes} are read"
        )
    data_start = _LENGTH_BYTES + length
    if data_start > len(data):
        raise InvalidModelError("the file ends inside its header; it is truncated")
    try:
        described = json.loads(
            bytes(data[_LENGTH_BYTES:data_start]), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as exc:
        raise InvalidModelError(f"the header is not JSON: {exc}") from exc
    if not isinstance(described, dict):
        raise InvalidModelError("the header is not a JSON object")
    return cast("dict[str, Any]", described), data_start


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise InvalidModelError("__metadata__ is not an object")
    pairs = cast("dict[str, object]", value)
    texts = {key: text for key, text in pairs.items() if isinstance(text, str)}
    if len(texts) != len(pairs):
        raise InvalidModelError("__metadata__ holds something other than strings")
    return texts


def _entry(name: str, value: object, data_start: int) -> HeaderEntry:
    if not name.isascii() and any("\ud800" <= char <= "\udfff" for char in name):
        raise InvalidModelError("the name of an array is not valid Unicode")
    if not isinstance(value, dict) or frozenset(cast("dict[str, object]", value)) != _ENTRY_KEYS:
        raise InvalidModelError(f"array {name!r} is not described by dtype, shape and data_offsets")
    described = cast("dict[str, object]", value)
    dtype, shape, offsets = (
        described["dtype"],
        _counts(described["shape"]),
        _counts(described["data_offsets"]),
    )
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise InvalidModelError(
            f"array {name!r} has dtype {str(dtype)[:20]!r}; a model may hold {', '.join(ITEM_BYTES)}"
        )
    if shape is None or len(shape) > _MAX_DIMENSIONS or math.prod(filter(None, shape)) > _MAX_EXTENT:
        raise InvalidModelError(f"array {name!r} has an impossible shape")
    if offsets is None or len(offsets) != len(("start", "stop")):
        raise InvalidModelError(f"array {name!r} has impossible offsets")
    start, stop = offsets
    spec = ArraySpec(name, shape, cast("DType", dtype))
    if stop - start != spec.num_bytes:
        raise InvalidModelError(f"array {spec} takes {spec.num_bytes} bytes, its offsets span {stop - start}")
    return HeaderEntry(spec, data_start + start, data_start + stop)


def _counts(value: object) -> tuple[int, ...] | None:
    """Return a list of whole numbers from 0 up to a bound as a tuple, and ``None`` for anything else."""
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    for item in items:  # a loop: a generator takes three times as long, and there are two lists an array
        if type(item) is not int or not 0 <= item <= _MAX_EXTENT:
            return None
    return tuple(cast("list[int]", items))
