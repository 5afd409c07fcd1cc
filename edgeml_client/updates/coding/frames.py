"""Zstandard frames whose size is known before they are decompressed."""

from __future__ import annotations

from typing import Final

import zstandard

from edgeml_client.errors import InvalidUpdateError

__all__ = ["FrameReader", "compress", "compress_noise"]

_LEVEL: Final = 1
_MAX_WINDOW_BYTES: Final = 1 << 23
_FEWEST_MATCHES: Final = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    min_match=7,
    hash_log=6,
    window_log=17,
    write_content_size=True,
    write_checksum=False,
)
"""Remembers so little, and takes so long matches alone, that it finds none by chance."""


def compress(data: bytes | memoryview) -> bytes:
    """Return ``data`` as one frame that declares its content size."""
    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True, write_checksum=False).compress(
        data
    )


def compress_noise(data: bytes | memoryview) -> bytes:
    """Return ``data`` as such a frame too, made for few symbols in no order.

    Among few symbols short repetitions occur by chance, and to refer to them takes more bits than to spell
    them: random signs in half bytes cost 1.24 bits each with :func:`compress`, and 1.02 here.
    """
    return zstandard.ZstdCompressor(compression_params=_FEWEST_MATCHES).compress(data)


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
