"""An absent extra, told from any other module that is missing."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from edgeml_client.errors import MissingExtraError

__all__ = ["lightning_extra"]

_NEEDED: Final = frozenset({"lightning", "torch", "torchmetrics"})


@contextmanager
def lightning_extra(feature: str) -> Generator[None]:
    """Turn an import of what the extra ``lightning`` brings, where it fails, into what to install.

    Args:
        feature: What needs the import.

    Raises:
        MissingExtraError: torch, lightning or torchmetrics is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.partition(".")[0] in _NEEDED:
            raise MissingExtraError(feature, extra="lightning") from exc
        raise
