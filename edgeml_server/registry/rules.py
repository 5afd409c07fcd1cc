"""Names, states and formats of versions: decisions on values."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from edgeml_server.errors import ContradictionError, InvalidContentError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VersionStatus", "change_status", "check_version_name", "looks_like", "opaque_format"]


class VersionStatus(StrEnum):
    """What a version is offered as."""

    DRAFT = "draft"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"


_NEXT: Final[Mapping[VersionStatus, frozenset[VersionStatus]]] = {
    VersionStatus.DRAFT: frozenset({VersionStatus.PUBLISHED, VersionStatus.DEPRECATED}),
    VersionStatus.PUBLISHED: frozenset({VersionStatus.DEPRECATED}),
    VersionStatus.DEPRECATED: frozenset({VersionStatus.PUBLISHED}),
}
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_RESERVED: Final = frozenset({"latest", "upload"})
_SUFFIXES: Final = {"mlmodel": "coreml", "mlpackage": "coreml"}
_FORMAT: Final = re.compile(r"[a-z0-9_]{1,16}")
_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"


def change_status(current: VersionStatus, wanted: VersionStatus) -> VersionStatus:
    """Return ``wanted`` if a version may become it; asking for what it is already changes nothing.

    Raises:
        ContradictionError: It may not.
    """
    if wanted is not current and wanted not in _NEXT[current]:
        raise ContradictionError(f"a {current.value} version cannot become {wanted.value}")
    return wanted


def check_version_name(version: str) -> str:
    """Return ``version`` if it may name one: it becomes part of addresses, so it is kept plain.

    Raises:
        InvalidContentError: It may not.
    """
    if not _VERSION.fullmatch(version) or version in _RESERVED:
        raise InvalidContentError(
            f"{version!r} cannot name a version: use up to 64 letters, digits and . _ + -, "
            f"starting with a letter or digit, and not {' or '.join(sorted(_RESERVED))}"
        )
    return version


def looks_like(head: bytes, file_name: str) -> str | None:
    """Return ``safetensors`` or ``pytorch`` if the file claims to be that, by content or name.

    Args:
        head: The first 16 bytes.
        file_name: As the sender called it.
    """
    suffix = _suffix(file_name)
    if suffix == "safetensors" or head[8:9] == b"{":
        return "safetensors"
    torch_named = suffix in {"pt", "pth", "ckpt", "pkl", "pickle"}
    if torch_named or head.startswith(_PICKLE) or (head.startswith(_ZIP) and suffix in {"", "bin"}):
        return "pytorch"
    return None


def opaque_format(file_name: str) -> str:
    """Return the name of the format of a file that is only kept and handed out: ``onnx``, ``tflite`` ..."""
    suffix = _suffix(file_name)
    return _SUFFIXES.get(suffix, suffix if _FORMAT.fullmatch(suffix) else "binary")


def _suffix(file_name: str) -> str:
    return PurePath(file_name).suffix.removeprefix(".").lower()
