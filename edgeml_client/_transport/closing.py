"""Clients that close their connections at the end of a ``with`` block."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from edgeml_client._transport.http import HttpTransport

__all__ = ["AsyncClosing", "Closing"]


class Closing:
    """A client that sends its requests through ``api``."""

    api: HttpTransport

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self.api.close()


class AsyncClosing:
    """The same for an async client."""

    api: HttpTransport

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        self.api.close()
