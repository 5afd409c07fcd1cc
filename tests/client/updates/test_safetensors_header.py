"""A header is believed only as far as it is consistent with the file."""

import json

import pytest

from edgeml_client.errors import InvalidModelError
from edgeml_client.updates.safetensors_header import read_header


def _file(header: object, body: bytes = b"", *, raw: bytes | None = None) -> memoryview:
    text = json.dumps(header).encode() if raw is None else raw
    return memoryview(len(text).to_bytes(8, "little") + text + body)


def _array(
    shape: object = (1,), start: object = 0, stop: object = 4, dtype: object = "F32"
) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (memoryview(b""), "at least 8 bytes"),
        (memoryview(b"\xff" * 8), "would take"),
        (memoryview((100).to_bytes(8, "little") + b"{}"), "truncated"),
        (_file(None, raw=b"{"), "not JSON"),
        (_file(None, raw=b"\xff\xfe"), "not JSON"),
        (_file(None, raw=b"[" * 100_000), "not JSON"),
        (_file(None, raw=b'{"w": NaN}'), "not JSON"),
        (_file(None, raw=b'{"w": 1, "w": 2}'), "occurs twice"),
        (_file([]), "not a JSON object"),
        (_file({"__metadata__": []}), "not an object"),
        (_file({"__metadata__": {"a": 1}}), "other than strings"),
        (_file({"w": {"dtype": "F32"}}, b"1234"), "not described"),
        (_file({"w": {**_array(), "extra": 1}}, b"1234"), "not described"),
        (_file({"w": _array(dtype="F8_E4M3")}, b"1234"), "has dtype"),
        (_file({"w": _array(dtype=4)}, b"1234"), "has dtype"),
        (_file({"w": _array(shape=[-1])}, b"1234"), "impossible shape"),
        (_file({"w": _array(shape=[1.0])}, b"1234"), "impossible shape"),
        (_file({"w": _array(shape=[True])}, b"1234"), "impossible shape"),
        (_file({"w": _array(shape=[1] * 33)}, b"1234"), "impossible shape"),
        (_file({"w": _array(shape=[0, 2**40, 2**40], stop=0)}), "impossible shape"),
        (_file({"w": _array(stop="4")}, b"1234"), "impossible offsets"),
        (_file({"w": {**_array(), "data_offsets": [0, 4, 8]}}, b"1234"), "impossible offsets"),
        (_file({"w": _array(stop=8)}, b"12345678"), "its offsets span 8"),
        (_file({"w": _array(start=4, stop=8)}, b"12345678"), "does not begin where"),
        (_file({"v": _array(), "w": _array()}, b"1234"), "does not begin where"),
        (_file({"w": _array()}, b"123"), "the file has"),
        (_file({"w": _array()}, b"12345"), "the file has"),
        (_file({"\ud800": _array()}, b"1234"), "Unicode"),
    ],
)  # fmt: skip
def test_what_is_not_as_the_format_says_is_refused(data: memoryview, message: str) -> None:
    with pytest.raises(InvalidModelError, match=message):
        read_header(data)


def test_the_number_of_arrays_is_bounded() -> None:
    header = {f"w{number}": _array(shape=[0], stop=0) for number in range(100_001)}

    with pytest.raises(InvalidModelError, match="lists 100001 arrays"):
        read_header(_file(header))


def test_a_bound_on_the_header_is_kept() -> None:
    with pytest.raises(InvalidModelError, match="at most 10 are read"):
        read_header(_file({"w": _array()}, b"1234"), max_header_bytes=10)
