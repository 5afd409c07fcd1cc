"""A global model on the wire and on disk: one safetensors file of the whole state dict."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml_client.errors import InvalidModelError
from edgeml_client.updates.arrays import (
    NUMPY_DTYPES,
    ArrayKind,
    State,
    layout_of,
    raw_bytes,
    require_torch,
    resolve_kind,
    widen_bfloat16,
)
from edgeml_client.updates.layout import ITEM_BYTES, ArraySpec, Layout
from edgeml_client.updates.safetensors_header import HeaderEntry, build_header, read_header

__all__ = ["GlobalModel", "digest_of", "encode_model"]


def digest_of(data: bytes | bytearray | memoryview) -> str:
    """Return ``sha256:<hex>``, the name of a file's content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def encode_model(state: State, *, layout: Layout | None = None) -> bytes:
    """Return the model file of a state dict; the same arrays always give the same bytes.

    Args:
        state: NumPy arrays or torch tensors on any device. Tied tensors are written under each name.
        layout: The dtypes to write; by default those of ``state``. Names and shapes must be the same.

    Raises:
        ModelMismatchError: An entry is no array a model may hold, or ``layout`` does not fit.
    """
    given = layout_of(state)
    if layout is not None:
        layout.require_same_arrays(given, summary="the state does not fit the model:", match_dtypes=False)
    specs = in_file_order(layout or given)
    return b"".join([
        build_header(specs, {}),
        *(raw_bytes(state[spec.name], dtype=spec.dtype) for spec in specs),
    ])  # fmt: skip


def in_file_order(layout: Layout) -> tuple[ArraySpec, ...]:
    """Return the arrays as files hold them: wide dtypes first, so that all lie aligned, then by name."""
    return tuple(sorted(layout, key=lambda spec: (-ITEM_BYTES[spec.dtype], spec.name)))


class GlobalModel:
    """One version of a model, as received: a file, its layout, and its arrays on demand.

    Args:
        data: A whole safetensors file. It is checked here, and its arrays are only read when asked for.
        version: The name of this version on the control plane.
        digest: ``sha256:<hex>`` of ``data``, from whoever took it already; by default it is taken when it is
            asked for.

    Raises:
        InvalidModelError: The file is malformed or holds what a model may not hold.

    Example:
        >>> model = GlobalModel(encode_model({"w": np.zeros(2, np.float32)}), version="1")
        >>> model.layout.names, model.numpy_arrays()["w"].tolist()
        (('w',), [0.0, 0.0])
    """

    def __init__(self, data: bytes | memoryview, *, version: str = "", digest: str | None = None) -> None:
        self.data = data
        self.version = version
        self._given_digest = digest
        header = read_header(memoryview(data))
        self.layout = Layout.of(entry.spec for entry in header.entries)
        self._entries: Mapping[str, HeaderEntry] = {entry.spec.name: entry for entry in header.entries}

    def __repr__(self) -> str:
        return f"GlobalModel(version={self.version!r}, arrays={len(self.layout)}, bytes={len(self.data)})"

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of the file."""
        return self._given_digest or digest_of(self.data)

    def require_digest(self, expected: str | None) -> None:
        """Return when the file has the digest ``expected``, or when none is known.

        Raises:
            InvalidModelError: The file is another one.
        """
        if expected is not None and expected != self.digest:
            raise InvalidModelError(
                f"version {self.version!r} should have digest {expected}, "
                f"the file received has {self.digest}; download it again"
            )

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return one array without copying it: read-only, in its own dtype, BF16 widened to float32.

        Raises:
            KeyError: The model has no such array.
        """
        entry = self._entries[name]
        raw = np.frombuffer(
            self.data, dtype=NUMPY_DTYPES[entry.spec.dtype], count=entry.spec.size, offset=entry.start
        )
        numbers = widen_bfloat16(raw) if entry.spec.dtype == "BF16" else raw
        return numbers.reshape(entry.spec.shape)

    def numpy_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return fresh, writable arrays in their own dtypes; BF16, which NumPy lacks, as float32."""
        return {name: self.array(name).copy() for name in self.layout.names}

    def torch_tensors(self) -> dict[str, Any]:
        """Return fresh tensors on the CPU, in their own dtypes.

        Raises:
            MissingExtraError: torch is not installed.
        """
        torch = require_torch("reading a model as torch tensors")
        tensors: dict[str, Any] = {}
        for spec in self.layout:
            if spec.dtype == "BF16":
                tensors[spec.name] = torch.from_numpy(self.array(spec.name).copy()).to(torch.bfloat16)
            else:
                tensors[spec.name] = torch.from_numpy(self.array(spec.name).copy())
        return tensors

    def state(self, arrays: ArrayKind = "auto") -> dict[str, Any]:
        """Return a fresh state dict: torch tensors where the program uses torch, else NumPy arrays."""
        return self.torch_tensors() if resolve_kind(arrays) == "torch" else self.numpy_arrays()
