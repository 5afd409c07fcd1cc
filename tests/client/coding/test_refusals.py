"""What a decoder refuses, and that it does so before it spends memory."""

from __future__ import annotations

import json
import struct
import tracemalloc
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import zstandard

from edgeml_client.errors import InvalidUpdateError, ModelMismatchError, NonFiniteError
from edgeml_client.updates import ArraySpec, Layout, open_update
from edgeml_client.updates.coding.frames import compress

LAYOUT = Layout.of([ArraySpec("a", (4,), "F32"), ArraySpec("b", (2,), "F16"), ArraySpec("n", (), "I64")])
Rows = list[tuple[int, int, int, int]]


@dataclass
class HostileFile:
    """A right file of the vector [1, 0, 2, 0, 0, 0] unless a part is replaced; int8, one block."""

    coding: Any = field(default_factory=lambda: {"values": "int8", "block": 8, "scales": "float32"})
    count: int = 2
    kind: int = 1
    index: bytes = field(default_factory=lambda: compress(bytes([0, 1])))
    values: bytes = bytes([1, 2])
    scales: bytes = struct.pack("<f", 1.0)
    rows: Rows | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    more: dict[str, tuple[str, list[int], bytes]] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    envelope: dict[str, Any] = field(default_factory=dict)

    def build(self) -> bytes:
        """Return the file."""
        rows = self.rows
        if rows is None:
            rows = [(self.count, self.kind, len(self.index), len(self.values))]
        table = b"".join(struct.pack("<4I", *row) for row in rows)
        streams: dict[str, tuple[str, list[int], bytes]] = {
            "edgeml.chunks": ("U32", [len(rows), 4], table),
            "edgeml.scales": ("F32", [len(self.scales) // 4], self.scales),
            "edgeml.index": ("U8", [len(self.index)], self.index),
            "edgeml.values": ("U8", [len(self.values)], self.values),
            **self.more,
        }
        envelope = {
            "format": "edgeml-delta/1",
            "round_id": "r",
            "model_id": "m",
            "base_version": "1",
            "base_digest": "sha256:0",
            "device_id": "d",
            "sample_count": 1,
            **self.envelope,
        }
        described: dict[str, Any] = {
            "__metadata__": {
                "edgeml.update": json.dumps(envelope),
                "edgeml.coding": self.coding if isinstance(self.coding, str) else json.dumps(self.coding),
                **self.metadata,
            }
        }
        body = b""
        for name, (dtype, shape, stream) in streams.items():
            if name not in self.without:
                offsets = [len(body), len(body) + len(stream)]
                described[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
                body += stream
        text = json.dumps(described).encode()
        return struct.pack("<Q", len(text)) + text + body


def hostile(**parts: Any) -> bytes:
    return HostileFile(**parts).build()


def read(data: bytes, layout: Layout = LAYOUT) -> list[list[float]]:
    update = open_update(data, layout)
    update.check_finite()
    return [array.tolist() for _, array in update.arrays()]


def test_the_file_that_all_others_are_made_from_is_right() -> None:
    assert read(HostileFile().build()) == [[1.0, 0.0, 2.0, 0.0], [0.0, 0.0]]


def float32(**parts: Any) -> dict[str, Any]:
    return {"coding": {"values": "float32"}, "without": ("edgeml.scales",), **parts}


WRONG: dict[str, dict[str, Any]] = {
    "coding that is no JSON": {"coding": "{"},
    "unknown value type": {"coding": {"values": "int2", "block": 8, "scales": "float32"}},
    "unknown scale type": {"coding": {"values": "int8", "block": 8, "scales": "float16"}},
    "unknown key in the coding": {"coding": {"values": "int8", "block": 8, "scales": "float32", "x": 1}},
    "block of the wrong type": {"coding": {"values": "int8", "block": "8", "scales": "float32"}},
    "block of one": {"coding": {"values": "int8", "block": 1, "scales": "float32"}},
    "unknown metadata": {"metadata": {"edgeml.more": "1"}},
    "unknown format": {"envelope": {"format": "edgeml-delta/2"}},
    "unknown array": {"more": {"a": ("F32", [1], b"\0\0\0\0")}},
    "missing stream": {"without": ("edgeml.index",)},
    "scales without need": {"coding": {"values": "float32"}},
    "scales of another type": {"more": {"edgeml.scales": ("BF16", [1], b"\x80\x3f")}},
    "index of another type": {"more": {"edgeml.index": ("I8", [2], b"\0\1")}},
    "table of another width": {"more": {"edgeml.chunks": ("U32", [4], bytes(16))}},
    "no chunk": {"rows": []},
    "a chunk too many": {"rows": [(2, 1, 11, 2), (0, 1, 0, 0)]},
    "more values than positions": {"count": 7},
    "values counted, and none there": {"count": 0},
    "index bytes beyond the stream": {"rows": [(2, 1, 12, 2)]},
    "index bytes left over": {"rows": [(2, 1, 10, 2)]},
    "value bytes beyond the values": {"values": bytes([1, 2, 3])},
    "value bytes of 4 GB": {"rows": [(2, 1, 11, 2**32 - 1)]},
    "values that are no frame": {"values": bytes([1])},
    "unknown kind of index": {"kind": 9},
    "index past the end": {"index": compress(bytes([0, 5]))},
    "index far past the end": {"index": compress(bytes([0, 255]))},
    "more positions than values": {"index": compress(bytes([0, 0, 0]))},
    "fewer positions than values": {"index": compress(bytes([0]))},
    "trailing bytes in the index": {"index": compress(bytes([0, 1])) + b"\0"},
    "two frames in the index": {"index": compress(bytes([0, 1])) + compress(b"")},
    "frame without its size": {
        "index": zstandard.ZstdCompressor(write_content_size=False).compress(bytes([0, 1]))
    },
    "bitmap beyond the end": {"kind": 2, "index": b"\xc1"},
    "bitmap of another length": {"kind": 2, "index": b"\x05\x00"},
    "every position, with too few values": {"kind": 0, "index": b""},
    "scale NaN": {"scales": struct.pack("<f", np.nan)},
    "scale negative": {"scales": struct.pack("<f", -1.0)},
    "scale of minus zero": {"scales": struct.pack("<f", -0.0), "values": b"\0\0"},
    "scale infinite": {"scales": struct.pack("<f", np.inf)},
    "scale so large that values overflow": {"scales": struct.pack("<f", 3e38)},
    "scale zero, values not": {"scales": struct.pack("<f", 0.0)},
    "no scales": {"scales": b""},
    "a scale too many": {"scales": struct.pack("<2f", 1.0, 1.0)},
    "a scale too many, by array": {
        "coding": {"values": "int8", "scales": "float32"},
        "scales": struct.pack("<2f", 1.0, 1.0),
    },
    "a scale too few, by array": {
        "coding": {"values": "int8", "scales": "float32"},
        "index": compress(bytes([0, 3])),
    },
    "lowest level": {"values": bytes([1, 0x80])},
    "private array the model does not have": {"envelope": {"private": ["z"]}},
    "private array, yet its values are here": {"envelope": {"private": ["a"]}},
    "all arrays private": {"envelope": {"private": ["a", "b"]}},
    "NaN among float32 values": float32(values=struct.pack("<2f", 1.0, np.nan)),
    "float32 values cut": float32(values=struct.pack("<f", 1.0)),
}


@pytest.mark.parametrize("parts", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises((InvalidUpdateError, ModelMismatchError)):
        read(hostile(**parts))


def test_bytes_after_the_last_stream_are_refused() -> None:
    with pytest.raises(InvalidUpdateError, match="describes"):
        read(hostile() + b"\0")


def test_the_array_with_the_bad_value_is_named() -> None:
    data = hostile(**float32(index=compress(bytes([0, 4])), values=struct.pack("<2f", 1.0, np.inf)))

    with pytest.raises(NonFiniteError, match="'b'"):
        open_update(data, LAYOUT).check_finite()


def test_a_stream_that_expands_is_refused_before_it_does() -> None:
    """A hundred MB of zeros compress to a few KB; the six positions of the model allow six bytes."""
    bomb = compress(bytes(100_000_000))
    for parts in (
        {"index": bomb},
        {"values": bomb[:2], "index": bomb},
        {"count": 6, "kind": 0, "index": b"", "values": bomb},
    ):
        tracemalloc.start()
        with pytest.raises(InvalidUpdateError):
            read(hostile(**parts))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


def test_a_stream_that_lies_about_its_size_is_refused() -> None:
    """The frame header says two bytes, the block holds three: offset 4 is the frame header, 5 the size."""
    frame = bytearray(compress(bytes([0, 1, 0])))
    assert frame[5] == 3
    frame[5] = 2

    with pytest.raises(InvalidUpdateError, match=r"decompressed|length"):
        read(hostile(index=bytes(frame)))


def test_a_huge_model_costs_nothing_before_its_streams_are_right() -> None:
    """The file claims to be of a model of 4 TB; it is refused for its number of chunks."""
    layout = Layout.of([ArraySpec("a", (1 << 40,), "F32")])
    data = hostile()
    tracemalloc.start()

    with pytest.raises(InvalidUpdateError, match="streams of the update"):
        open_update(data, layout)

    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
