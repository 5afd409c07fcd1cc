"""Rows as a pandas frame, where pandas is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeml_client.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

__all__ = ["frame_of"]


def frame_of(rows: Sequence[Mapping[str, object]], *, index: list[str]) -> pd.DataFrame:
    """Return ``rows`` as a frame indexed by the columns ``index``; no rows give an empty frame.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - optional
    except ImportError as exc:
        raise MissingExtraError("a pandas frame", extra="all") from exc
    frame = pd.DataFrame.from_records([dict(row) for row in rows])
    return frame.set_index(index) if rows else frame  # pyright: ignore[reportUnknownMemberType] - the stub's
