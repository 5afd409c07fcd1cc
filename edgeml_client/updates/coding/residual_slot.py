"""A file that holds one residual: a header that decides whether it counts, and the numbers behind it."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydantic import ValidationError

from edgeml_client.durable import flushing_early, sync_content, sync_folder, write_all
from edgeml_client.schemas import WireBody
from edgeml_client.updates.coding.left_out import LeftOut
from edgeml_client.updates.layout import Layout

__all__ = ["NUMBERS_START", "ResidualMark", "ResidualSlot", "SlotHeader"]

_LOG = logging.getLogger(__name__)

NUMBERS_START: Final = 1 << 14
"""Where the numbers begin, little-endian float32; what is before them belongs to the header."""

_MAGIC: Final = b"edgeml residual\n"
_CRC_BYTES: Final = 4
_LENGTH_BYTES: Final = 4
_PIECE_BYTES: Final = 1 << 20


class ResidualMark(WireBody):
    """Which update left a residual behind.

    Attributes:
        model_id: The model.
        round_id: The round of the update.
        base_digest: The global model that the update was computed against.
        update_digest: ``sha256:<hex>`` of the update file.
    """

    model_id: str
    round_id: str
    base_digest: str
    update_digest: str


class SlotHeader(WireBody):
    """What a slot says of the residual in it.

    Attributes:
        sequence: Its number among the residuals of the model, from 1.
        layout_digest: Tells its arrays from others.
        numbers_crc32: The checksum of the numbers.
        mark: The update that left it behind.
    """

    sequence: int
    layout_digest: str
    numbers_crc32: int
    mark: ResidualMark

    @classmethod
    def of(cls, layout: Layout, *, sequence: int, numbers_crc32: int, mark: ResidualMark) -> SlotHeader:
        """Return the header of a residual of these arrays."""
        return cls(
            sequence=sequence, layout_digest=_digest_of(layout), numbers_crc32=numbers_crc32, mark=mark
        )

    def packed(self) -> bytes:
        """Return it as it lies in a slot, with a checksum of its own."""
        text = self.model_dump_json().encode()
        covered = len(text).to_bytes(_LENGTH_BYTES, "little") + text
        return _MAGIC + zlib.crc32(covered).to_bytes(_CRC_BYTES, "little") + covered


@dataclass(frozen=True, slots=True)
class ResidualSlot:
    """One file, whose content changes in place: flushing it costs no more than its numbers.

    Numbers are written first, the header after them. Without a header whose checksum is right there is no
    residual.

    Attributes:
        path: The file, which need not be there.
    """

    path: Path

    def find_header(self) -> SlotHeader | None:
        """Return the header, or ``None`` if the slot holds no residual."""
        try:
            with self.path.open("rb") as stream:
                head = stream.read(NUMBERS_START)
        except FileNotFoundError:
            return None
        start = len(_MAGIC) + _CRC_BYTES
        length = int.from_bytes(head[start : start + _LENGTH_BYTES], "little")
        covered = head[start : start + _LENGTH_BYTES + length]
        crc32 = zlib.crc32(covered).to_bytes(_CRC_BYTES, "little")
        if head[:start] != _MAGIC + crc32:
            return None  # it was being written when the process died, or never was
        try:
            return SlotHeader.model_validate_json(covered[_LENGTH_BYTES:])
        except ValidationError:
            _LOG.warning("the residual %s was written by another version and is not used", self.path)
            return None

    def find_problem(self, header: SlotHeader, layout: Layout) -> str | None:
        """Return why the numbers cannot be added to a delta of these arrays; ``None`` if they can."""
        if header.layout_digest != _digest_of(layout):
            return "it has other arrays than this update"
        num_bytes, expected = self.path.stat().st_size, NUMBERS_START + layout.num_bytes
        if num_bytes != expected:
            return f"its file {self.path} has {num_bytes} bytes and should have {expected}"
        if self._crc32_of_numbers() != header.numbers_crc32:
            return f"its file {self.path} is damaged, the numbers in it do not match their checksum"
        return None

    def write_numbers(self, left_out: LeftOut) -> int:
        """Write the numbers of a residual, flushed to the disk; return their CRC-32."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path.touch(mode=0o600)
            sync_folder(self.path.parent)
        crc32 = 0
        with self._opened() as stream:
            stream.seek(NUMBERS_START)
            with flushing_early(stream) as write:
                for block in left_out.blocks():
                    data = block.astype("<f4", copy=False).data
                    crc32 = zlib.crc32(data, crc32)
                    write(data)
            stream.truncate()
            sync_content(stream)
        return crc32

    def write_header(self, header: SlotHeader) -> None:
        """Let the numbers count from now on, for good."""
        self._write_head(header.packed())

    def clear(self) -> None:
        """Let the slot hold no residual any more, for good."""
        self._write_head(bytes(len(_MAGIC)))

    def _write_head(self, head: bytes) -> None:
        with self._opened() as stream:
            write_all(stream, head)
            sync_content(stream)

    def _opened(self) -> BinaryIO:
        return self.path.open("r+b", buffering=0)

    def _crc32_of_numbers(self) -> int:
        crc32 = 0
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(NUMBERS_START)
            while data := stream.read(_PIECE_BYTES):
                crc32 = zlib.crc32(data, crc32)
        return crc32


def _digest_of(layout: Layout) -> str:
    return hashlib.sha256(json.dumps(layout.to_json()).encode()).hexdigest()
