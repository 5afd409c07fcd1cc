"""Who is calling."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Principal"]


@dataclass(frozen=True)
class Principal:
    """The bearer of a good token; everything it may touch belongs to ``org_id``.

    Attributes:
        device_identifier: The device the token was issued to; ``None`` for an operator.
        device_id: That device's row, once it has registered.
    """

    org_id: str
    scopes: frozenset[str]
    device_identifier: str | None = None
    device_id: str | None = None

    @property
    def is_device(self) -> bool:
        """Whether a device is calling, which may act for itself only."""
        return self.device_identifier is not None
