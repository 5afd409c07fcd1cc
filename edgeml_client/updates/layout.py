"""What a model looks like without its numbers: names, shapes and dtypes of its arrays.

A layout is what the control plane registers for a model. Everything that arrives later is checked
against it before memory is spent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal

from pydantic import JsonValue, TypeAdapter, ValidationError

from edgeml_client.errors import InvalidModelError, ModelMismatchError

__all__ = ["ITEM_BYTES", "ArraySpec", "DType", "Layout"]

DType = Literal["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"]
"""The dtypes a model may hold, by their safetensors names."""

ITEM_BYTES: Final[Mapping[str, int]] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip

_FLOATING: Final = frozenset({"F64", "F32", "F16", "BF16"})
_FLOAT32_BYTES: Final = ITEM_BYTES["F32"]


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a model.

    Attributes:
        name: The name in the state dict, such as ``body.0.weight``.
        shape: The extent of each dimension; ``()`` for a scalar.
        dtype: The safetensors name of the dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """The bytes the array takes in a model file."""
        return self.size * ITEM_BYTES[self.dtype]

    @property
    def is_averaged(self) -> bool:
        """Whether the array takes part in an update: floating arrays do, counters and masks never."""
        return self.dtype in _FLOATING


@dataclass(frozen=True)
class Layout:
    """The arrays of a model, ordered by name.

    Attributes:
        specs: One entry per array; names are unique and ascending.

    Example:
        >>> layout = Layout.of([ArraySpec("w", (2, 3), "F32"), ArraySpec("steps", (), "I64")])
        >>> layout.names, layout.num_bytes, layout.floating.names
        (('steps', 'w'), 32, ('w',))
    """

    specs: tuple[ArraySpec, ...]

    @classmethod
    def of(cls, specs: Iterable[ArraySpec]) -> Layout:
        """Return the layout of ``specs``, in whatever order they come.

        Raises:
            InvalidModelError: A name occurs twice.
        """
        ordered = tuple(sorted(specs, key=lambda spec: spec.name))
        for left, right in pairwise(ordered):
            if left.name == right.name:
                raise InvalidModelError(f"array {left.name!r} occurs twice; names must be unique")
        return cls(ordered)

    @classmethod
    def from_safetensors_header(cls, data: bytes | bytearray | memoryview) -> Layout:
        """Return the layout of a safetensors file, reading nothing but its header.

        Args:
            data: The whole file; its length is checked against the header.

        Raises:
            InvalidModelError: The file is malformed, truncated, or holds a dtype outside :data:`DType`.
        """
        from edgeml_client.updates.safetensors_header import read_header  # noqa: PLC0415 - it needs ArraySpec

        return cls.of(entry.spec for entry in read_header(memoryview(data)).entries)

    @classmethod
    def from_json(cls, value: object) -> Layout:
        """Return the layout that :meth:`to_json` wrote.

        Raises:
            InvalidModelError: ``value`` is not such a list.
        """
        try:
            return cls.of(_ROWS.validate_python(value))
        except ValidationError as exc:
            raise InvalidModelError(f"not a layout: {exc.error_count()} entries are wrong") from exc

    def to_json(self) -> list[JsonValue]:
        """Return the layout as plain JSON values."""
        return [{"name": s.name, "shape": list(s.shape), "dtype": s.dtype} for s in self.specs]

    def __len__(self) -> int:
        return len(self.specs)

    def __iter__(self) -> Iterator[ArraySpec]:
        return iter(self.specs)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> ArraySpec:
        return self._by_name[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The names, ascending."""
        return tuple(spec.name for spec in self.specs)

    @property
    def size(self) -> int:
        """The number of elements in all arrays together."""
        return sum(spec.size for spec in self.specs)

    @property
    def num_bytes(self) -> int:
        """The bytes of all arrays in a model file, without its header."""
        return sum(spec.num_bytes for spec in self.specs)

    @property
    def num_delta_bytes(self) -> int:
        """The bytes of all floating arrays as float32, which is what an update holds at most."""
        return self.floating.size * _FLOAT32_BYTES

    @cached_property
    def floating(self) -> Layout:
        """The arrays that take part in an update, in their registered dtypes."""
        return Layout(tuple(spec for spec in self.specs if spec.is_averaged))

    def as_float32(self) -> Layout:
        """Return the same floating arrays with dtype F32, as an update carries them.

        Raises:
            ModelMismatchError: An array is not floating: counters and masks never travel in an update.
        """
        problems = [str(spec) for spec in self.specs if not spec.is_averaged]
        if problems:
            raise ModelMismatchError("an update holds floating arrays only, but these are given:", problems)
        return Layout(tuple(ArraySpec(spec.name, spec.shape, "F32") for spec in self.specs))

    def without(self, names: Collection[str]) -> Layout:
        """Return the layout less the arrays in ``names``."""
        return Layout(tuple(spec for spec in self.specs if spec.name not in names))

    def require_same_arrays(self, other: Layout, *, summary: str, match_dtypes: bool = True) -> None:
        """Return when ``other`` has the same names and shapes, and the same dtypes if asked.

        Args:
            other: The layout that was given, where this one was expected.
            summary: The first line of the message.
            match_dtypes: Whether a different dtype is a problem too.

        Raises:
            ModelMismatchError: They differ; one line tells about each array.
        """
        problems = [*self._missing_or_different(other, match_dtypes=match_dtypes)]
        problems += [f"unexpected {spec}" for spec in other if spec.name not in self]
        if problems:
            raise ModelMismatchError(summary, problems)

    def _missing_or_different(self, other: Layout, *, match_dtypes: bool) -> Iterator[str]:
        for spec in self:
            if spec.name not in other:
                yield f"missing {spec}"
            elif other[spec.name].shape != spec.shape:
                yield f"{spec.name}: expected shape {list(spec.shape)}, got {list(other[spec.name].shape)}"
            elif match_dtypes and other[spec.name].dtype != spec.dtype:
                yield f"{spec.name}: expected dtype {spec.dtype}, got {other[spec.name].dtype}"

    @cached_property
    def _by_name(self) -> Mapping[str, ArraySpec]:
        return {spec.name: spec for spec in self.specs}


_ROWS: Final = TypeAdapter(list[ArraySpec])
