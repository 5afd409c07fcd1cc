"""What versions may be called, become, and be recognised as."""

from __future__ import annotations

import pytest

from edgeml_server.errors import ContradictionError, InvalidContentError
from edgeml_server.registry.rules import (
    VersionStatus,
    change_status,
    check_version_name,
    looks_like,
    opaque_format,
)

DRAFT, PUBLISHED, DEPRECATED = VersionStatus


@pytest.mark.parametrize("name", ["1", "1.0.0", "2026-01-31", "v1+build_7", "A" * 64])
def test_a_plain_name_names_a_version(name: str) -> None:
    assert check_version_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "latest", "upload", ".", "../x", "a/b", "a b", "-1", "A" * 65, "ä", "1\n"]
)
def test_a_name_that_would_not_fit_into_an_address_is_refused(name: str) -> None:
    with pytest.raises(InvalidContentError, match="cannot name a version"):
        check_version_name(name)


@pytest.mark.parametrize(
    ("current", "wanted"),
    [(DRAFT, PUBLISHED), (DRAFT, DEPRECATED), (PUBLISHED, DEPRECATED), (DEPRECATED, PUBLISHED)]
    + [(status, status) for status in VersionStatus],
)
def test_allowed_changes_of_status(current: VersionStatus, wanted: VersionStatus) -> None:
    assert change_status(current, wanted) is wanted


@pytest.mark.parametrize("current", [PUBLISHED, DEPRECATED])
def test_nothing_becomes_a_draft_again(current: VersionStatus) -> None:
    with pytest.raises(ContradictionError, match="cannot become draft"):
        change_status(current, DRAFT)


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"\x10\0\0\0\0\0\0\0{", "anything", "safetensors"),
        (b"garbage", "model.safetensors", "safetensors"),
        (b"PK\x03\x04", "", "pytorch"),
        (b"PK\x03\x04", "model.pt", "pytorch"),
        (b"\x80\x02}q", "model.bin", "pytorch"),
        (b"garbage", "model.pth", "pytorch"),
        (b"PK\x03\x04", "model.mlpackage.zip", None),
        (b"\x08\x07", "model.onnx", None),
        (b"", "", None),
    ],
)
def test_a_file_is_what_its_content_or_else_its_name_claims(head: bytes, name: str, kind: str | None) -> None:
    assert looks_like(head, name) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("m.onnx", "onnx"),
        ("m.TFLite", "tflite"),
        ("m.mlmodel", "coreml"),
        ("m", "binary"),
        ("m.with blank", "binary"),
    ],
)
def test_other_files_are_called_after_their_suffix(name: str, kind: str) -> None:
    assert opaque_format(name) == kind
