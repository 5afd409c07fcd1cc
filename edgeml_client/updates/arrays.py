"""NumPy arrays and torch tensors alike, without importing torch: only who has it can pass a tensor."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import MissingExtraError, ModelMismatchError
from edgeml_client.updates.layout import ArraySpec, DType, Layout

if TYPE_CHECKING:
    import torch

__all__ = [
    "Array",
    "ArrayKind",
    "Float32Array",
    "State",
    "as_numpy",
    "describe",
    "is_tensor",
    "layout_of",
    "like",
    "numbers_in_place",
    "raw_bytes",
    "require_torch",
    "resolve_kind",
    "widen_bfloat16",
]

Array: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
"""What a state dict holds."""

State: TypeAlias = Mapping[str, Any]
"""A state dict: names to NumPy arrays or torch tensors."""

Float32Array: TypeAlias = npt.NDArray[np.float32]

ArrayKind = Literal["auto", "torch", "numpy"]
"""Which arrays a caller wants; ``auto`` is torch where the program has imported it."""

_HOW_TO_GET_ONE: Final = "pass module.state_dict(), or a mapping from names to NumPy arrays or torch tensors"

_BY_NUMPY_NAME: Final[Mapping[str, DType]] = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip

NUMPY_DTYPES: Final[Mapping[DType, np.dtype[Any]]] = {
    dtype: np.dtype("<u2" if dtype == "BF16" else name).newbyteorder("<")
    for name, dtype in _BY_NUMPY_NAME.items()
}
"""How each dtype lies in a file; BF16, which NumPy lacks, as its 16 bits."""


def is_tensor(value: object) -> TypeGuard[torch.Tensor]:
    """Return whether ``value`` is a torch tensor."""
    torch_module = sys.modules.get("torch")
    return torch_module is not None and isinstance(value, torch_module.Tensor)


def require_torch(purpose: str) -> Any:  # noqa: ANN401 - the module itself
    """Return the torch module.

    Raises:
        MissingExtraError: It is not installed; ``purpose`` begins the sentence.
    """
    try:
        import torch  # noqa: PLC0415 - this package works without it
    except ImportError as exc:
        raise MissingExtraError(purpose, extra="lightning") from exc
    return torch


def resolve_kind(kind: ArrayKind) -> Literal["torch", "numpy"]:
    """Return ``kind``, with ``auto`` decided by whether the program has imported torch."""
    if kind != "auto":
        return kind
    return "torch" if sys.modules.get("torch") is not None else "numpy"


def describe(name: str, value: object) -> ArraySpec:
    """Return name, shape and dtype of an array.

    Raises:
        ModelMismatchError: ``value`` is no array, is sparse, or has a dtype a model may not hold.
    """
    if is_tensor(value):
        if value.layout is not _torch().strided or value.is_quantized:
            raise ModelMismatchError("only dense arrays can be sent", [f"{name}: {value.layout}"])
        dtype_name = str(value.dtype).removeprefix("torch.")
        shape = tuple(int(extent) for extent in value.shape)
    elif isinstance(value, np.ndarray | np.generic | bool | int | float):
        as_array = np.asarray(value)
        dtype_name, shape = as_array.dtype.name, as_array.shape
    else:
        raise ModelMismatchError(
            "a state dict holds NumPy arrays or torch tensors", [f"{name}: {type(value).__name__}"]
        )
    dtype = _BY_NUMPY_NAME.get(dtype_name)
    if dtype is None:
        raise ModelMismatchError(
            f"a model may hold {', '.join(_BY_NUMPY_NAME)}", [f"{name}: {dtype_name}{list(shape)}"]
        )
    return ArraySpec(name, shape, dtype)


def layout_of(state: State) -> Layout:
    """Return the layout of a state dict; tied tensors count once under each of their names.

    Raises:
        ModelMismatchError: This is no state dict, or an entry is no dense array of a dtype a model may hold.
    """
    _require_mapping(state)
    return Layout.of(describe(name, value) for name, value in state.items())


def _require_mapping(state: object) -> None:
    """Refuse what has no names, above all a module where its state dict is wanted."""
    if not isinstance(state, Mapping):
        kind = type(state).__name__
        raise ModelMismatchError(f"a state dict is needed, not a {kind}", [_HOW_TO_GET_ONE])


def as_numpy(value: Array, *, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the numbers of an array in main memory, as ``dtype``; without a copy where none is needed.

    The result may share memory with ``value``: do not write to it.
    """
    if is_tensor(value):
        dense = value.detach().resolve_neg().cpu()
        numbers: npt.NDArray[Any] = (dense.float() if dense.dtype is _torch().bfloat16 else dense).numpy()
    else:
        numbers = np.asarray(value)
    with np.errstate(over="ignore", invalid="ignore"):
        return numbers.astype(dtype, copy=False)


def numbers_in_place(value: Array) -> npt.NDArray[Any] | None:
    """Return the numbers of a floating array flat and where they lie, BF16 as its 16 bits.

    ``None`` where that is not possible: on another device, or if the numbers do not lie one after the other.
    """
    if is_tensor(value):
        torch_module = _torch()
        if value.device.type != "cpu" or value.is_neg() or not value.is_contiguous():
            return None
        is_bfloat16 = value.dtype is torch_module.bfloat16
        flat = value.detach().reshape(-1)
        numbers: npt.NDArray[Any] = flat.view(torch_module.int16).numpy() if is_bfloat16 else flat.numpy()
        return numbers.view(np.uint16) if is_bfloat16 else numbers
    array = np.asarray(value)
    return array.reshape(-1) if array.flags.c_contiguous and array.dtype.isnative else None


def like(example: Array, numbers: npt.NDArray[Any]) -> Array:
    """Return ``numbers`` as the kind of array that ``example`` is, sharing their memory."""
    if is_tensor(example):
        tensor: Array = _torch().from_numpy(numbers)
        return tensor
    return numbers


def raw_bytes(value: Array, *, dtype: DType) -> memoryview:
    """Return the bytes that stand for ``value`` in a file whose header says ``dtype``."""
    if dtype != "BF16":
        return _bytes_of(as_numpy(value, dtype=NUMPY_DTYPES[dtype]))
    if is_tensor(value):
        bits = value.detach().resolve_neg().cpu().to(_torch().bfloat16).contiguous().view(_torch().int16)
        return _bytes_of(bits.numpy())
    return _bytes_of(_narrow_to_bfloat16(as_numpy(value, dtype=np.float32)))


def _bytes_of(numbers: npt.NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(numbers).reshape(-1).view(np.uint8).data


def widen_bfloat16(bits: npt.NDArray[np.uint16]) -> Float32Array:
    """Return the float32 numbers that BF16 ``bits`` stand for, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _narrow_to_bfloat16(values: Float32Array) -> npt.NDArray[np.uint16]:
    bits = np.ascontiguousarray(values).reshape(-1).view(np.uint32)
    to_nearest_even = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    quiet_nan = (bits >> 16) | np.uint32(0x40)
    return np.where((bits & 0x7FFFFFFF) > 0x7F800000, quiet_nan, to_nearest_even).astype("<u2")  # noqa: PLR2004 - float32's infinity


def _torch() -> Any:  # noqa: ANN401 - the module itself
    return sys.modules["torch"]
