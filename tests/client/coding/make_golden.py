"""Writes the golden files: ``python tests/client/coding/make_golden.py``; only when the format grows.

What a golden file must decode to is what the tiny decoder says, not what our reader says; a human
compares the few numbers that stand beside it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from edgeml_client.schemas import UpdateHeader
from edgeml_client.updates import DeltaVector
from edgeml_client.updates.coding import Coding, encode_coded

sys.path.insert(0, str(Path(__file__).parent))
import tiny_decoder

GOLDEN = Path(__file__).parent / "golden"
SHAPES = {"body.weight": [40, 50], "body.bias": [40], "head.weight": [7, 3], "scale": []}
CASES = {
    "int4-top-tenth": (Coding(values="int4", block=64, scales="bfloat16"), 0.1, SHAPES, ()),
    "int8-top-tenth": (Coding(values="int8", block=256, scales="bfloat16"), 0.1, SHAPES, ()),
    "int8-each-array": (Coding(values="int8", scales="float32"), 0.1, SHAPES, ("head.weight",)),
    "int16-half-bitmap": (Coding(values="int16", block=256, scales="float32"), 0.5, SHAPES, ()),
    "float32-top-tenth": (Coding(values="float32"), 0.1, SHAPES, ()),
    "int4-every": (Coding(values="int4", block=64, scales="float32"), 1.0, SHAPES, ()),
    "int8-rank-3": (Coding(values="int8", block=64, scales="bfloat16", rank=3), 1.0, SHAPES, ()),
    "float32-rank-2": (Coding(values="float32", rank=2), 1.0, SHAPES, ("head.weight",)),
    "int8-two-chunks": (
        Coding(values="int8", block=8, scales="float32"),
        0.0004,
        {"a": [1_000_000], "b": [100_000]},
        (),
    ),
}


def delta(shapes: dict[str, list[int]], private: tuple[str, ...]) -> DeltaVector:
    """Return the same numbers on every machine."""
    generator = np.random.Generator(np.random.PCG64(20240229))
    return DeltaVector.of({
        name: np.ldexp(generator.integers(-4000, 4001, shape).astype(np.float32), -16)
        for name, shape in shapes.items()
        if name not in private
    })  # fmt: skip


def main() -> None:
    """Write all files and their index."""
    index = {}
    for name, (coding, fraction, shapes, private) in CASES.items():
        header = UpdateHeader(
            round_id="round-1",
            model_id="model-1",
            base_version="1",
            base_digest="sha256:" + "0" * 64,
            device_id="device-1",
            sample_count=5,
            metrics={"loss": 0.25},
            private=private,
        )
        data = encode_coded(header, delta(shapes, private), coding=coding, fraction=fraction)
        (GOLDEN / f"{name}.update").write_bytes(data)
        arrays = tiny_decoder.read(data, shapes)
        index[name] = {
            "shapes": shapes,
            "private": private,
            "arrays": {
                key: {"sha256": digest(numbers), "nonzero": [x for x in numbers if x][:4]}
                for key, numbers in arrays.items()
            },
        }
    (GOLDEN / "index.json").write_text(json.dumps(index, indent=1) + "\n")


def digest(numbers: list[float]) -> str:
    """Return the SHA-256 of the numbers as little-endian float32."""
    return hashlib.sha256(np.array(numbers, "<f4").tobytes()).hexdigest()


if __name__ == "__main__":
    main()
