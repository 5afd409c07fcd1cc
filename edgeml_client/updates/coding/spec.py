"""What a coded update consists of: the names, the bounds and the choices that its header records.

``docs/wire-format.md`` specifies the format; the constants here are those of that document.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, model_validator

from edgeml_client.schemas import WireBody
from edgeml_client.updates.layout import ArraySpec, DType

__all__ = [
    "CHUNKS",
    "CHUNK_LENGTH",
    "CODING_KEY",
    "INDEX",
    "LARGEST_LEVEL",
    "MAX_RANK",
    "SCALES",
    "UPDATE_KEY",
    "VALUES",
    "Chunk",
    "Coding",
    "IndexKind",
    "Scales",
    "ValueType",
    "coded_layout",
    "num_chunks",
]

UPDATE_KEY: Final = "edgeml.update"
"""The entry of ``__metadata__`` that holds the envelope of any update."""

CODING_KEY: Final = "edgeml.coding"
"""The entry of ``__metadata__`` that makes an update file a coded one."""

CHUNK_LENGTH: Final = 1 << 20
"""The positions of the vector that one chunk covers: 4 MiB as float32. The last chunk may be shorter."""

CHUNKS: Final = "edgeml.chunks"
INDEX: Final = "edgeml.index"
VALUES: Final = "edgeml.values"
SCALES: Final = "edgeml.scales"

ValueType = Literal["float32", "int16", "int8", "int4"]
Scales = Literal["float32", "bfloat16"]

LARGEST_LEVEL: Final = {"int16": 32_767, "int8": 127, "int4": 7}
"""The grids are symmetric: the most negative integer of each type is never used."""

MAX_RANK: Final = 64
"""Of factors: what a reader computes for each number of a matrix grows with it."""

_SCALE_DTYPES: Final[dict[Scales, DType]] = {"float32": "F32", "bfloat16": "BF16"}
_COLUMNS: Final = 4


class IndexKind(IntEnum):
    """How a chunk says which of its positions have values."""

    EVERY = 0
    GAPS = 1
    BITMAP = 2


class Coding(WireBody):
    """How the values of an update are coded.

    Attributes:
        values: The type of the numbers.
        block: How many consecutive values share a scale; ``None`` gives each array its own (and a new
            one at the beginning of each chunk).
        scales: The type of the scales.
        rank: With one, matrices travel as two factors of that rank; see
            :func:`~edgeml_client.updates.coding.factors.stored_layout`.

    Example:
        >>> Coding.for_bits(4)
        Coding(values='int4', block=64, scales='bfloat16')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    values: ValueType
    block: Annotated[int, Field(ge=8, le=65_536)] | None = None
    scales: Scales | None = None
    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] | None = None

    @model_validator(mode="after")
    def _scales_go_with_integers(self) -> Self:
        if (self.values == "float32") != (self.scales is None):
            raise ValueError("integers have scales, and float32 has none")
        if self.values == "float32" and self.block is not None:
            raise ValueError("float32 has no blocks")
        return self

    @classmethod
    def for_bits(cls, bits: int | None) -> Coding | None:
        """Return the usual coding for a number of bits, ``None`` if there is none; no bits mean float32."""
        usual: dict[int | None, Coding] = {
            None: cls(values="float32"),
            16: cls(values="int16", block=256, scales="float32"),
            8: cls(values="int8", block=256, scales="bfloat16"),
            4: cls(values="int4", block=64, scales="bfloat16"),
        }
        return usual.get(bits)

    @property
    def largest_level(self) -> int:
        """The largest magnitude of the integers; 1 for float32."""
        return LARGEST_LEVEL.get(self.values, 1)

    def num_value_bytes(self, count: int) -> int:
        """Return the bytes of ``count`` values before compression."""
        if self.values == "int4":
            return (count + 1) // 2
        return count * np.dtype(self.values).itemsize


def num_chunks(size: int) -> int:
    """Return how many chunks a vector of ``size`` numbers has."""
    return -(-size // CHUNK_LENGTH)


def coded_layout(
    coding: Coding, *, size: int, num_scales: int, index_bytes: int, value_bytes: int
) -> tuple[ArraySpec, ...]:
    """Return the arrays of a coded update file, in the order of the file."""
    chunks = ArraySpec(CHUNKS, (num_chunks(size), _COLUMNS), "U32")
    scales = (
        () if coding.scales is None else (ArraySpec(SCALES, (num_scales,), _SCALE_DTYPES[coding.scales]),)
    )
    return (
        chunks,
        *scales,
        ArraySpec(INDEX, (index_bytes,), "U8"),
        ArraySpec(VALUES, (value_bytes,), "U8"),
    )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The numbers of one chunk.

    Attributes:
        start: The position of the chunk in the vector.
        stop: The position after it.
        positions: Where the values go, ascending and relative to ``start``; ``None`` means everywhere.
        values: The numbers.
    """

    start: int
    stop: int
    positions: npt.NDArray[np.integer[Any]] | None
    values: npt.NDArray[np.float32]

    @property
    def span(self) -> int:
        """How many positions the chunk covers."""
        return self.stop - self.start

    def dense(self) -> npt.NDArray[np.float32]:
        """Return the chunk with zeros where it has no values."""
        if self.positions is None:
            return self.values
        numbers = np.zeros(self.span, np.float32)
        numbers[self.positions] = self.values
        return numbers

    def add_into_(self, target: npt.NDArray[np.float32], *, first: int, factor: np.float32) -> None:
        """Add ``factor`` times what the chunk holds at ``first`` and after to ``target``, element by element.

        Args:
            target: Flat; it stands for as many positions of the vector, all of them within the chunk.
            first: The position in the vector of its first element.
            factor: Multiplies the values, in float32.
        """
        low = first - self.start
        high = low + target.size
        if self.positions is None:
            target += self.values[low:high] * factor
            return
        positions, values = self.positions, self.values
        if target.size < self.span:
            left, right = np.searchsorted(positions, [low, high])
            positions, values = positions[left:right] - low, values[left:right]
        np.add.at(target, positions, values * factor)
