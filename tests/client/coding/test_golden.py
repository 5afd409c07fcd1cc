"""Files written once decode to the same bits for ever, also by a reader written from the document alone."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeml_client.updates import ArraySpec, Layout, open_update
from edgeml_client.updates.coding import CodedUpdateFile

HERE = Path(__file__).parent
INDEX: dict[str, Any] = json.loads((HERE / "golden" / "index.json").read_text())


@pytest.fixture(scope="module")
def tiny_decoder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tiny_decoder", HERE / "tiny_decoder.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def layout_for(shapes: dict[str, list[int]]) -> Layout:
    return Layout.of(ArraySpec(name, tuple(shape), "F32") for name, shape in shapes.items())


@pytest.mark.parametrize("name", sorted(INDEX))
def test_a_golden_file_decodes_to_what_it_always_did(name: str) -> None:
    expected = INDEX[name]

    update = open_update(HERE / "golden" / f"{name}.update", layout_for(expected["shapes"]))
    arrays = dict(update.arrays())

    assert isinstance(update, CodedUpdateFile)
    assert list(arrays) == sorted(expected["arrays"])
    for key, array in arrays.items():
        assert list(array.shape) == expected["shapes"][key]
        flat = array.reshape(-1)
        assert [float(x) for x in flat[flat != 0][:4]] == expected["arrays"][key]["nonzero"]
        canonical = (flat + np.float32(0)).astype("<f4")  # -0.0 and 0.0 are the same number
        assert hashlib.sha256(canonical.tobytes()).hexdigest() == expected["arrays"][key]["sha256"]


@pytest.mark.parametrize("name", sorted(INDEX))
def test_the_document_is_enough_to_read_a_file(name: str, tiny_decoder: ModuleType) -> None:
    shapes = INDEX[name]["shapes"]
    file = HERE / "golden" / f"{name}.update"

    by_the_document = tiny_decoder.read(file.read_bytes(), shapes)

    for key, array in open_update(file, layout_for(shapes)).arrays():
        np.testing.assert_array_equal(array.reshape(-1), np.array(by_the_document[key], np.float32))
