"""Zstandard frames whose size is known before they are decompressed."""

from __future__ import annotations

from typing import Final

import zstandard

from edgeml_client.errors import InvalidUpdateError

__all__ = ["FrameReader", "compress"]

_LEVEL: Final = 1
_MAX_WINDOW_BYTES: Final = 1 << 23


def compress(data: bytes | memoryview) -> bytes:
    """Return ``data`` as one frame that declares its content size."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True, write_checksum=False).compress(
        data
    )


class FrameReader:
    """Decompresses frames within bounds; not to be shared between threads."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)

    def read(self, frame: memoryview, *, at_least: int, at_most: int) -> bytes:
        """Return the content of ``frame``, which must be one frame and nothing else.

        Args:
            frame: The bytes.
            at_least: The smallest content size that can be right.
            at_most: The largest one; no more memory is allocated.

        Raises:
            InvalidUpdateError: It is no such frame, declares no content size or another one.
        """
        try:
            declared = zstandard.get_frame_parameters(frame)
        except (zstandard.ZstdError, ValueError) as exc:
            raise InvalidUpdateError(f"a stream cannot be decompressed: {exc}") from exc
        if not at_least <= declared.content_size <= at_most:
            raise InvalidUpdateError(
                f"a stream declares {declared.content_size} bytes, where {at_least} to {at_most} belong"
            )
        if declared.dict_id or declared.window_size > _MAX_WINDOW_BYTES:
            raise InvalidUpdateError("a stream needs a dictionary, or a window larger than 8 MiB")
        try:
            content = self._decompressor.decompress(
                frame, max_output_size=declared.content_size, read_across_frames=False, allow_extra_data=False
            )
        except (zstandard.ZstdError, ValueError) as exc:
            raise InvalidUpdateError(f"a stream cannot be decompressed: {exc}") from exc
        if len(content) != declared.content_size:
            raise InvalidUpdateError("a stream has another length than it declares")
        return content
